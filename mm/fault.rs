// SPDX-License-Identifier: GPL-2.0

//! Fault-in: make pages resident under the read lock, without ever giving it up.
//!
//! Lock state: the mmap lock is held for reading on entry, throughout, and on exit.

use super::{
    vma::FaultAccess,
    MmapReadGuard, //
};
use core::ptr;
use kernel::{
    bindings,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    time::msecs_to_jiffies, //
};

const MICROS_PER_MILLI: u32 = 1000;

/// How far a [`MmapReadGuard::fault_in`] came.
pub(crate) enum Progress {
    /// Everything before this address is resident.
    Until(usize),
    /// The first page waits for I/O, which is under way.
    Blocked,
}

/// The address up to which `get_user_pages()` came when it was to go from `addr` to `end` and
/// returned `done`, or its error.
pub(super) fn gup_progress(done: isize, addr: usize, end: usize) -> Result<usize> {
    match usize::try_from(done) {
        Ok(done) => Ok(addr.saturating_add(done.saturating_mul(PAGE_SIZE)).min(end)),
        // An errno fits into an i32.
        Err(_) => Err(to_result(done as i32).err().unwrap_or(EFAULT)),
    }
}

impl MmapReadGuard<'_> {
    /// Fault in pages from `addr` up to `end`, page addresses within one VMA, as far as that goes
    /// without waiting for I/O.
    ///
    /// `get_user_pages()` without FOLL_UNLOCKABLE never drops the mmap lock; with FOLL_NOWAIT a
    /// fault starts its I/O and comes back. It looks for a fatal signal before each page.
    ///
    /// # Errors
    ///
    /// Those of `get_user_pages()`: EFAULT, ENOMEM, EREMOTEIO, EINTR for a fatal signal.
    pub(crate) fn fault_in(
        &self,
        addr: usize,
        end: usize,
        access: FaultAccess,
    ) -> Result<Progress> {
        let flags = bindings::FOLL_NOWAIT
            | match access {
                FaultAccess::Write => bindings::FOLL_WRITE,
                FaultAccess::ForcedRead => bindings::FOLL_FORCE,
            };
        let pages = end.saturating_sub(addr) >> PAGE_SHIFT;

        // SAFETY: The calling thread holds the mmap lock of `current->mm`, by the type invariants.
        // Without FOLL_GET and FOLL_PIN no array of pages is needed, and none is written.
        let done = unsafe { bindings::get_user_pages(addr, pages, flags, ptr::null_mut()) };

        match gup_progress(done, addr, end)? {
            until if until > addr => Ok(Progress::Until(until)),
            _ => Ok(Progress::Blocked),
        }
    }

    /// Sleep for about `micros` microseconds, or until a fatal signal arrives.
    ///
    /// Below a millisecond a fatal signal does not cut the sleep short.
    pub(crate) fn sleep_killable(&self, micros: u32) {
        if micros < MICROS_PER_MILLI {
            let most = micros.saturating_mul(2) as usize;
            // SAFETY: The calling thread may sleep: it is in process context, and the mmap lock is
            // the only lock it holds.
            unsafe { bindings::usleep_range_state(micros as usize, most, bindings::TASK_KILLABLE) };
        } else {
            let timeout = msecs_to_jiffies(micros / MICROS_PER_MILLI);
            // SAFETY: As above.
            unsafe { bindings::schedule_timeout_killable(timeout as isize) };
        }
    }
}
