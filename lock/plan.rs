// SPDX-License-Identifier: GPL-2.0

//! The plan: what the VMAs and the limits say about a request. Looks, and changes nothing.
//!
//! Lock state: the mmap lock is held for writing, and stays held until the plan is carried out.

use super::{
    Failure,
    Request, //
};
use crate::mm::{
    self,
    LockMode,
    MmapLocked,
    MmapWriteGuard,
    PageRange, //
};
use kernel::prelude::*;

/// A range that can be locked as far as can be told without trying. Only valid under the hold of
/// the mmap lock that it was made under.
pub(super) struct Plan {
    range: PageRange,
    mode: LockMode,
    nr_vmas: u32,
}

impl Plan {
    pub(super) fn range(&self) -> PageRange {
        self.range
    }

    pub(super) fn mode(&self) -> LockMode {
        self.mode
    }

    pub(super) fn nr_vmas(&self) -> u32 {
        self.nr_vmas
    }
}

/// Whether the caller may lock memory at all: `can_do_mlock()`.
///
/// # Errors
///
/// EPERM: RLIMIT_MEMLOCK is 0 and the caller has no CAP_IPC_LOCK.
pub(super) fn may_lock() -> Result {
    if mm::can_do_mlock() {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// Look whether `range` can be locked as `request` wants it.
///
/// # Errors
///
/// - ENOMEM with an address: nothing is mapped there.
/// - EBUSY: the VMA there is registered with userfaultfd, and the call would have to wait for its
///   handler with the mmap lock held.
/// - ENOMEM without an address: over RLIMIT_MEMLOCK, as `do_mlock()` counts it.
pub(super) fn look(
    guard: &MmapWriteGuard<'_>,
    request: &Request,
    range: PageRange,
) -> Result<Plan, Failure> {
    let mut nr_vmas = 0u32;
    let mut locked_pages = 0usize;
    let mut addr = range.start();

    while addr < range.end() {
        let vma = match guard.find_vma(addr) {
            Some(vma) if vma.start() <= addr => vma,
            _ => return Err(Failure::at(addr, ENOMEM)),
        };
        if request.populates() && vma.is_userfaultfd_armed() {
            return Err(Failure::at(addr, EBUSY));
        }

        let end = vma.end().min(range.end());
        if vma.is_locked() {
            locked_pages = locked_pages.saturating_add(mm::pages(end.saturating_sub(addr)));
        }
        nr_vmas = nr_vmas.saturating_add(1);
        addr = end;
    }
    within_limit(guard, range.pages().saturating_sub(locked_pages))?;

    Ok(Plan {
        range,
        mode: request.mode(),
        nr_vmas,
    })
}

/// Whether `new_pages` more locked pages are within the caller's limit.
fn within_limit(guard: &MmapWriteGuard<'_>, new_pages: usize) -> Result {
    let locked_pages = guard.locked_pages().saturating_add(new_pages);

    if locked_pages <= mm::memlock_limit_pages() || mm::has_cap_ipc_lock() {
        Ok(())
    } else {
        Err(ENOMEM)
    }
}
