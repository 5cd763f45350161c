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
        let flags = bindings::FOLL_NOWAIT | access.gup_flags();
        let pages = end.saturating_sub(addr) >> PAGE_SHIFT;

        // SAFETY: The calling thread holds the mmap lock of `current->mm`, by the type invariants.
        // Without FOLL_GET and FOLL_PIN no array of pages is needed, and none is written.
        let done = unsafe { bindings::get_user_pages(addr, pages, flags, ptr::null_mut()) };

        match gup_progress(done, addr, end)? {
            until if until > addr => Ok(Progress::Until(until)),
            _ => Ok(Progress::Blocked),
        }
    }
}

/// The errno for what a page fault answered, `None` if it was no error: `vm_fault_to_errno()`.
pub(super) fn fault_error(fault: u32) -> Option<Error> {
    const NO_MEMORY: u32 = bindings::vm_fault_reason_VM_FAULT_OOM;
    const NO_PAGE: u32 = bindings::vm_fault_reason_VM_FAULT_SIGBUS
        | bindings::vm_fault_reason_VM_FAULT_SIGSEGV
        | bindings::vm_fault_reason_VM_FAULT_HWPOISON
        | bindings::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
        | bindings::vm_fault_reason_VM_FAULT_FALLBACK;

    if fault & NO_MEMORY != 0 {
        Some(ENOMEM)
    } else if fault & NO_PAGE != 0 {
        Some(EFAULT)
    } else {
        None
    }
}

/// Which signals end a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// SIGKILL, and what kills as it does.
    Fatal,
    /// Any that is not blocked.
    Any,
}

impl Signals {
    /// Whether such a signal waits for the calling thread.
    pub(crate) fn is_pending(self) -> bool {
        current!().signal_pending() && (self == Signals::Any || fatal_signal_pending())
    }
}

/// `fatal_signal_pending(current)`, which the bindings do not have, but for the first half.
pub(super) fn fatal_signal_pending() -> bool {
    let sigkill = 1 << (bindings::SIGKILL - 1);

    // SAFETY: The current task is valid. Other threads may set the bit at any time.
    let pending =
        unsafe { (&raw const (*bindings::get_current()).pending.signal.sig[0]).read_volatile() };
    pending & sigkill != 0
}

/// Let another thread have this CPU, if the scheduler wants that. The mmap lock or the lock of a
/// VMA may be held; no other lock is.
///
/// `cond_resched()` does nothing on a preemptible kernel, and with lazy preemption a thread that
/// wakes up would wait for the next tick.
pub(crate) fn resched_if_due() {
    const DUE: usize = 1 << bindings::TIF_NEED_RESCHED | 1 << bindings::TIF_NEED_RESCHED_LAZY;

    // SAFETY: The current task is valid. Others may set the bits at any time.
    let flags =
        unsafe { (&raw const (*bindings::get_current()).thread_info.flags).read_volatile() };
    if flags & DUE != 0 {
        // SAFETY: The calling thread is running and may sleep.
        unsafe { bindings::schedule() };
    }
}

/// Sleep for about `micros` microseconds, or until a fatal signal arrives. The mmap lock may be
/// held; no other lock is.
///
/// Below a millisecond a fatal signal does not cut the sleep short.
pub(crate) fn sleep_killable(micros: u32) {
    if micros < MICROS_PER_MILLI {
        let most = micros.saturating_mul(2) as usize;
        // SAFETY: The calling thread may sleep: it is in process context, and holds no lock but
        // perhaps the mmap lock.
        unsafe { bindings::usleep_range_state(micros as usize, most, bindings::TASK_KILLABLE) };
    } else {
        let timeout = msecs_to_jiffies(micros / MICROS_PER_MILLI);
        // SAFETY: As above.
        unsafe { bindings::schedule_timeout_killable(timeout as isize) };
    }
}
