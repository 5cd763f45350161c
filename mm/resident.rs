// SPDX-License-Identifier: GPL-2.0

//! Residency: which pages are in the page table, without faulting any in.
//!
//! Lock state: the mmap lock is held for reading on entry, throughout, and on exit.

use super::{
    fault::gup_progress,
    MmapLocked,
    MmapQueryGuard, //
};
use core::ptr;
use kernel::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A stretch of pages that are all resident, or the one page that is not.
pub(crate) enum Residency {
    /// Everything before this address.
    ResidentUntil(usize),
    /// The page before this address.
    AbsentUntil(usize),
}

impl MmapQueryGuard<'_> {
    /// What is resident from `addr` on, up to `end` at the most, page addresses within one VMA.
    ///
    /// `get_user_pages_remote()` with FOLL_NOFAULT stops at the first page that is not in the page
    /// table, and asks no protection keys. Memory that it never hands out (device memory,
    /// secretmem) counts as absent.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal.
    pub(crate) fn residency(&self, addr: usize, end: usize) -> Result<Residency> {
        let pages = end.saturating_sub(addr) >> PAGE_SHIFT;
        // SAFETY: The calling thread holds the mmap lock of `current->mm`, by the type invariants.
        // Without FOLL_GET and FOLL_PIN no array of pages is needed, and none is written.
        let done = unsafe {
            bindings::get_user_pages_remote(
                self.caller_mm().as_raw(),
                addr,
                pages,
                bindings::FOLL_NOFAULT | bindings::FOLL_FORCE,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };

        match gup_progress(done, addr, end) {
            Ok(until) if until > addr => Ok(Residency::ResidentUntil(until)),
            Err(EINTR) => Err(EINTR),
            _ => Ok(Residency::AbsentUntil(
                addr.saturating_add(PAGE_SIZE).min(end),
            )),
        }
    }
}
