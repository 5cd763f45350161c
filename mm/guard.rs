// SPDX-License-Identifier: GPL-2.0

//! The mmap lock as types.
//!
//! A [`MmapWriteGuard`] can be had once and turned into a [`MmapReadGuard`] once. Nothing leads
//! back, so that "edit after the downgrade" and "populate before it" do not compile.
//!
//! Lock order: the mmap lock is taken without any other lock held.

use super::{
    mlock,
    vma::Vma,
    PageAddr,
    PageRange, //
};
use kernel::{
    bindings,
    error::to_result,
    mm::MmWithUser,
    prelude::*,
    task::CurrentTask,
    types::NotThreadSafe, //
};

/// The address space of the calling thread.
///
/// # Invariants
///
/// It is `current->mm`, for as long as the value lives.
pub(crate) struct CallerMm<'a> {
    mm: &'a MmWithUser,
    // `current->mm` of another thread is another one.
    _nts: NotThreadSafe,
}

impl<'a> CallerMm<'a> {
    /// The address space of `task`, or `None` for a kernel thread.
    pub(crate) fn new(task: &'a CurrentTask) -> Option<Self> {
        // INVARIANT: A `CurrentTask` is the current task, and can neither be sent to another one
        // nor outlive an execve().
        Some(Self {
            mm: task.mm()?,
            _nts: NotThreadSafe,
        })
    }

    pub(super) fn as_raw(&self) -> *mut bindings::mm_struct {
        self.mm.as_raw()
    }

    pub(super) fn mm(&self) -> &'a MmWithUser {
        self.mm
    }
}

/// What the VMAs of a range are to become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Not locked: munlock(2).
    Unlocked,
    /// Locked as far as pages are resident or come to be: mlock2(MLOCK_ONFAULT).
    OnFault,
    /// Locked, and to be populated: mlock(2).
    Resident,
}

impl LockMode {
    /// What `mm/mlock.c` calls it.
    fn as_raw(self) -> mlock::mlock_rs_mode {
        match self {
            LockMode::Unlocked => mlock::mlock_rs_mode_MLOCK_RS_UNLOCKED,
            LockMode::OnFault => mlock::mlock_rs_mode_MLOCK_RS_ONFAULT,
            LockMode::Resident => mlock::mlock_rs_mode_MLOCK_RS_RESIDENT,
        }
    }
}

/// What can be done with the mmap lock held in either way.
///
/// # Safety
///
/// The mmap lock of [`Self::caller_mm`] is held as long as the implementor lives.
pub(crate) unsafe trait MmapLocked {
    /// The address space whose lock is held.
    fn caller_mm(&self) -> &CallerMm<'_>;

    /// The first VMA that ends after `addr`; it may start after `addr` too.
    fn find_vma(&self, addr: usize) -> Option<Vma<'_>> {
        // SAFETY: The mmap lock is held, by the contract of the trait.
        let vma = unsafe { bindings::find_vma(self.caller_mm().as_raw(), addr) };

        // SAFETY: If it is not null, the VMA is valid and cannot change while the mmap lock is
        // held, and the result borrows from the guard.
        (!vma.is_null()).then(|| unsafe { Vma::from_raw(vma) })
    }

    /// What lies at `addr`, or, if nothing does, `None`.
    fn vma_at(&self, addr: usize) -> Option<Vma<'_>> {
        self.find_vma(addr).filter(|vma| vma.start() <= addr)
    }
}

/// The mmap lock of the caller's address space, held for writing.
///
/// # Invariants
///
/// The calling thread owns the lock for writing.
pub(crate) struct MmapWriteGuard<'a> {
    mm: &'a CallerMm<'a>,
    // The lock has to be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> MmapWriteGuard<'a> {
    /// Wait for the lock.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal arrived first.
    pub(crate) fn lock_killable(mm: &'a CallerMm<'a>) -> Result<Self> {
        // SAFETY: The address space is that of the current task, which is alive.
        to_result(unsafe { mlock::mlock_rs_mmap_write_lock_killable(mm.as_raw()) })?;

        // INVARIANT: The lock was just taken.
        Ok(Self {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// Keep the lock for reading only. No other thread can have it for writing in between.
    pub(crate) fn downgrade(self) -> MmapReadGuard<'a> {
        let mm = self.mm;
        // The new guard releases the lock.
        core::mem::forget(self);
        // SAFETY: By the invariants of the guard that was consumed, the lock is held for writing.
        unsafe { mlock::mlock_rs_mmap_write_downgrade(mm.as_raw()) };

        // INVARIANT: The lock was just downgraded.
        MmapReadGuard {
            mm,
            _nts: NotThreadSafe,
        }
    }

    /// Split the VMA at `addr` if [`Self::set_lock_mode`] with an end there would
    /// have to. Returns whether there was something to split.
    ///
    /// # Errors
    ///
    /// ENOMEM: no memory, or vm.max_map_count is reached. Or what the `may_split` of the VMA says.
    /// Nothing has changed.
    pub(crate) fn split(&mut self, addr: PageAddr, mode: LockMode) -> Result<bool> {
        // SAFETY: The mmap lock of `current->mm` is held for writing, and it is a page address.
        let split = unsafe { mlock::mlock_rs_split_vma(addr.get(), mode.as_raw()) };
        to_result(split)?;
        Ok(split > 0)
    }

    /// Merge what [`Self::split`] has split, if the kernel can: it needs memory, and never removes
    /// a VMA that has a `close` operation.
    pub(crate) fn unsplit(&mut self, addr: PageAddr) {
        // SAFETY: The mmap lock of `current->mm` is held for writing, and it is a page address.
        unsafe { mlock::mlock_rs_unsplit_vma(addr.get()) };
    }

    /// Set the lock flags of all VMAs in `range`, as mlock(2) and munlock(2) do.
    ///
    /// # Errors
    ///
    /// ENOMEM: a hole in the range, or a VMA could not be split; VMAs before that are changed.
    /// Neither can be after [`Self::split`] at both ends of a range without a hole.
    pub(crate) fn set_lock_mode(&mut self, range: PageRange, mode: LockMode) -> Result {
        // SAFETY: The mmap lock of `current->mm` is held for writing, and the range is page
        // aligned.
        to_result(unsafe { mlock::mlock_rs_change_vmas(range.start(), range.end(), mode.as_raw()) })
    }

    /// VmLck in pages.
    pub(crate) fn locked_pages(&self) -> usize {
        // SAFETY: The address space is valid. `locked_vm` only changes with the lock held for
        // writing, or by a stack that grows, which needs the lock too.
        unsafe { (*self.mm.as_raw()).__bindgen_anon_1.locked_vm }
    }
}

// SAFETY: By its invariants.
unsafe impl MmapLocked for MmapWriteGuard<'_> {
    fn caller_mm(&self) -> &CallerMm<'_> {
        self.mm
    }
}

impl Drop for MmapWriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the calling thread owns the lock for writing.
        unsafe { mlock::mlock_rs_mmap_write_unlock(self.mm.as_raw()) };
    }
}

/// The mmap lock of the caller's address space, held for reading, since a downgrade; in a
/// [`MmapYieldGuard`](super::MmapYieldGuard) since a gap.
///
/// # Invariants
///
/// The calling thread owns the lock for reading.
pub(crate) struct MmapReadGuard<'a> {
    mm: &'a CallerMm<'a>,
    // The lock has to be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> MmapReadGuard<'a> {
    pub(super) fn mm(&self) -> &'a CallerMm<'a> {
        self.mm
    }

    /// Take the lock after it was given up, if nobody has it for writing or waits for it. Only for
    /// [`MmapYieldGuard`](super::MmapYieldGuard).
    pub(super) fn try_lock_again(mm: &'a CallerMm<'a>) -> Option<Self> {
        // SAFETY: The address space is that of the current task, which is alive.
        let locked = unsafe { bindings::mmap_read_trylock(mm.as_raw()) };

        // INVARIANT: The lock was just taken. A guard that is made for nothing would release it.
        locked.then(|| Self {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// Wait for the lock after it was given up. Only for [`MmapYieldGuard`], which looks at what
    /// happened meanwhile.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal arrived first.
    ///
    /// [`MmapYieldGuard`]: super::MmapYieldGuard
    pub(super) fn lock_again_killable(mm: &'a CallerMm<'a>) -> Result<Self> {
        // SAFETY: The address space is that of the current task, which is alive.
        to_result(unsafe { mlock::mlock_rs_mmap_read_lock_killable(mm.as_raw()) })?;

        // INVARIANT: The lock was just taken.
        Ok(Self {
            mm,
            _nts: NotThreadSafe,
        })
    }
}

// SAFETY: By its invariants.
unsafe impl MmapLocked for MmapReadGuard<'_> {
    fn caller_mm(&self) -> &CallerMm<'_> {
        self.mm
    }
}

impl Drop for MmapReadGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the calling thread owns the lock for reading.
        unsafe { bindings::mmap_read_unlock(self.mm.as_raw()) };
    }
}

/// The mmap lock of the caller's address space, held for reading from the start: to look, not to
/// populate, because what was there before could have changed unseen.
///
/// # Invariants
///
/// The calling thread owns the lock for reading.
pub(crate) struct MmapQueryGuard<'a> {
    mm: &'a CallerMm<'a>,
    // The lock has to be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> MmapQueryGuard<'a> {
    /// Wait for the lock.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal arrived first.
    pub(crate) fn lock_killable(mm: &'a CallerMm<'a>) -> Result<Self> {
        // SAFETY: The address space is that of the current task, which is alive.
        to_result(unsafe { mlock::mlock_rs_mmap_read_lock_killable(mm.as_raw()) })?;

        // INVARIANT: The lock was just taken.
        Ok(Self {
            mm,
            _nts: NotThreadSafe,
        })
    }
}

// SAFETY: By its invariants.
unsafe impl MmapLocked for MmapQueryGuard<'_> {
    fn caller_mm(&self) -> &CallerMm<'_> {
        self.mm
    }
}

impl Drop for MmapQueryGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the calling thread owns the lock for reading.
        unsafe { bindings::mmap_read_unlock(self.mm.as_raw()) };
    }
}
