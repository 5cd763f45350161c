// SPDX-License-Identifier: GPL-2.0

//! The query: what is mapped, locked and resident in a range.
//!
//! Lock state: takes the mmap lock for reading, once, and releases it.

use super::request::page_range;
use crate::mm::{
    resched_if_due,
    uapi::mlock_rs_query,
    CallerMm,
    MmapQueryGuard,
    PageRange,
    Residency,
    Signals,
    VmaIterator, //
};
use kernel::prelude::*;

/// What a range is like, in bytes.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) mapped: u64,
    pub(crate) locked: u64,
    pub(crate) onfault: u64,
    pub(crate) resident: u64,
    pub(crate) nr_vmas: u32,
    /// Every page is mapped, locked and resident.
    pub(crate) locked_resident: bool,
}

/// Answer a QUERY about the address space of the calling thread.
///
/// # Errors
///
/// - EINVAL: an unknown flag, a reserved field that is not zero, or a range that wraps around
///   the end of the address space.
/// - EINTR: a fatal signal.
pub(crate) fn run(arg: &mlock_rs_query) -> Result<Answer> {
    if arg.flags != 0 || arg.__reserved != 0 {
        return Err(EINVAL);
    }
    let Some(range) = page_range(arg.addr, arg.len)? else {
        return Ok(Answer::default());
    };
    let task = current!();
    let mm = CallerMm::new(task).ok_or(EINVAL)?;
    let guard = MmapQueryGuard::lock_killable(&mm)?;
    look(&guard, range)
}

fn look(guard: &MmapQueryGuard<'_>, range: PageRange) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut addr = range.start();
    let mut vmas = VmaIterator::new(guard);

    while let Some(vma) = vmas.find(addr) {
        let start = vma.start().max(addr);
        let end = vma.end().min(range.end());
        if start >= end {
            break;
        }
        let bytes = end.saturating_sub(start) as u64;
        answer.mapped = answer.mapped.saturating_add(bytes);
        if vma.is_locked() {
            answer.locked = answer.locked.saturating_add(bytes);
        }
        if vma.is_lock_on_fault() {
            answer.onfault = answer.onfault.saturating_add(bytes);
        }
        // What has no pages would be asked for page by page in vain.
        if !vma.is_never_populated() {
            answer.resident = answer.resident.saturating_add(resident(guard, start, end)?);
        }
        answer.nr_vmas = answer.nr_vmas.saturating_add(1);
        addr = end;
    }

    let all = range.len() as u64;
    answer.locked_resident = answer.locked == all && answer.resident == all;
    Ok(answer)
}

/// How many bytes between `addr` and `end`, which lie within one VMA, are resident.
fn resident(guard: &MmapQueryGuard<'_>, mut addr: usize, end: usize) -> Result<u64> {
    let mut bytes = 0u64;
    while addr < end {
        // The kernel looks for neither where it does not hand the page out at all.
        if Signals::Fatal.is_pending() {
            return Err(EINTR);
        }
        resched_if_due();
        addr = match guard.residency(addr, end)? {
            Residency::ResidentUntil(until) => {
                bytes = bytes.saturating_add(until.saturating_sub(addr) as u64);
                until
            }
            Residency::AbsentUntil(until) => until,
        };
    }
    Ok(bytes)
}
