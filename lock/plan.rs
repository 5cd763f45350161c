// SPDX-License-Identifier: GPL-2.0

//! The plan: what the VMAs and the limits say about a request. Looks, and changes nothing.
//!
//! Lock state: the mmap lock is held for writing, and stays held until the plan is carried out.

use super::{
    commit::{
        Edit,
        Edits, //
    },
    Failure,
    Request, //
};
use crate::mm::{
    self,
    LockMode,
    MmapWriteGuard,
    PageRange,
    Vma,
    VmaIterator, //
};
use kernel::prelude::*;

/// A request that can be carried out as far as can be told without trying. Only valid under the
/// hold of the mmap lock that it was made under.
pub(super) struct Plan<'r> {
    request: &'r Request,
    nr_vmas: u32,
    edits: Edits,
}

impl Plan<'_> {
    /// What is to be done with which ranges.
    pub(super) fn edits(&mut self) -> (&mut Edits, &[PageRange]) {
        (&mut self.edits, self.request.ranges())
    }

    pub(super) fn mode(&self) -> LockMode {
        self.request.mode()
    }

    /// Whether all of it is one range within one VMA.
    pub(super) fn is_within_one_vma(&self) -> bool {
        self.nr_vmas == 1
    }

    pub(super) fn nr_vmas(&self) -> u32 {
        self.nr_vmas
    }
}

/// Whether the caller may do this at all: `can_do_mlock()`. Unlocking is free to everybody.
///
/// # Errors
///
/// EPERM: RLIMIT_MEMLOCK is 0 and the caller has no CAP_IPC_LOCK.
pub(super) fn may(mode: LockMode) -> Result {
    if mode == LockMode::Unlocked || mm::can_do_mlock() {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// Whether the limit leaves room for `ranges` if nothing else were locked. Where it does not, the
/// call will be refused, and there is no need to prepare for it.
pub(super) fn may_fit(ranges: &[PageRange]) -> bool {
    let pages = ranges
        .iter()
        .fold(0usize, |sum, range| sum.saturating_add(range.pages()));
    pages <= mm::memlock_limit_pages() || mm::has_cap_ipc_lock()
}

/// Look whether `request` can be carried out.
///
/// # Errors
///
/// - ENOMEM with an address: nothing is mapped there.
/// - EBUSY: the VMA there is registered with userfaultfd, and the call would have to wait for its
///   handler with the mmap lock held. Not if it gives the lock up to wait.
/// - ENOMEM without an address: over RLIMIT_MEMLOCK, as `do_mlock()` counts it.
pub(super) fn look<'r>(
    guard: &MmapWriteGuard<'_>,
    request: &'r Request,
    mut edits: Edits,
) -> Result<Plan<'r>, Failure> {
    let mut nr_vmas = 0u32;
    let mut new_pages = 0usize;
    let mut vmas = VmaIterator::new(guard);

    for range in request.ranges() {
        let mut edit = Edit::default();
        let mut addr = range.start();
        while addr < range.end() {
            let vma = match vmas.find(addr) {
                Some(vma) if vma.start() <= addr => vma,
                _ => return Err(Failure::at(addr, ENOMEM)),
            };
            if request.manner().slice.is_none() && waits_for_userfaultfd(&vma, request.mode()) {
                return Err(Failure::at(addr, EBUSY));
            }

            let end = vma.end().min(range.end());
            if !vma.is_locked() {
                new_pages = new_pages.saturating_add(mm::pages(end.saturating_sub(addr)));
            }
            if vma.lock_mode() != request.mode() {
                edit.change = true;
                let ends = [vma.start() < range.start(), vma.end() > range.end()];
                if ends == [true; 2] {
                    edit.inside = Some(vma.lock_mode());
                }
                edit.split[0] |= ends[0];
                edit.split[1] |= ends[1];
            }
            nr_vmas = nr_vmas.saturating_add(1);
            addr = end;
        }
        edits.push(edit);
    }
    if request.mode() != LockMode::Unlocked {
        within_limit(guard, new_pages)?;
    }

    Ok(Plan {
        request,
        nr_vmas,
        edits,
    })
}

/// Whether populating `vma` would wait for a userfaultfd handler.
///
/// Lock-on-fault faults nothing in, but for hugetlb memory, which cannot carry the flag and is
/// populated even by mlock2(MLOCK_ONFAULT).
fn waits_for_userfaultfd(vma: &Vma<'_>, mode: LockMode) -> bool {
    let populates = match mode {
        LockMode::Unlocked => false,
        LockMode::OnFault => vma.is_hugetlb(),
        LockMode::Resident => true,
    };
    populates && vma.is_userfaultfd_armed()
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
