// SPDX-License-Identifier: GPL-2.0

//! The read lock of a call that gives it up for others, and that can tell what happened meanwhile.
//!
//! Lock state: a [`MmapYieldGuard`] holds the mmap lock for reading. What gives the lock up takes
//! the guard by value and returns one when the lock is held again, so that nothing borrowed from
//! under the lock lives across a gap. Nothing leads back to the write lock.

use super::{
    fault::{
        fault_error,
        sleep_killable, //
    },
    mlock,
    vma::FaultAccess,
    vma_fault::Helped,
    CallerMm,
    MmapLocked,
    MmapReadGuard,
    Signals,
    Vma, //
};
use core::{
    mem,
    ptr, //
};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// How many bytes to fault in between two looks whether the lock is free again.
const MEANWHILE: usize = 8 * PAGE_SIZE;
/// How many microseconds to sleep at a time until a writer that waits has the lock.
const HANDOVER: u32 = 20;
/// How often. A writer that is not there after that is not held up by this call.
const HANDOVERS: u32 = 50;

/// The mmap lock of the caller's address space, held for reading, and given up now and then.
///
/// # Invariants
///
/// As for [`MmapReadGuard`]. `sequence` is the lock's sequence count while it is held: no writer
/// has had the lock since that was read.
pub(crate) struct MmapYieldGuard<'a> {
    held: MmapReadGuard<'a>,
    sequence: Sequence,
}

/// What became of a fault that may give the lock up.
pub(crate) enum Unlockable<'a> {
    /// The page is resident, and the lock was not given up.
    Held(MmapYieldGuard<'a>),
    /// The lock was given up. The page may be resident or not.
    Gap(MmapYieldGuard<'a>),
}

/// The sequence count of the mmap lock: every writer changes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence(u32);

impl Sequence {
    /// Whether `other` was counted after this one. The count wraps around.
    fn is_before(self, other: u32) -> bool {
        (other.wrapping_sub(self.0) as i32) > 0
    }

    #[cfg(CONFIG_PER_VMA_LOCK)]
    fn of(mm: &CallerMm<'_>) -> Self {
        // SAFETY: The address space is valid. Nobody changes the count while the lock is held for
        // reading, and otherwise the value is only a hint.
        let count = unsafe {
            (&raw const (*mm.as_raw()).__bindgen_anon_1.mm_lock_seq.sequence).read_volatile()
        };
        Self(count)
    }

    /// There is no count, and nobody relies on this one.
    #[cfg(not(CONFIG_PER_VMA_LOCK))]
    fn of(_mm: &CallerMm<'_>) -> Self {
        Self(0)
    }
}

impl<'a> From<MmapReadGuard<'a>> for MmapYieldGuard<'a> {
    fn from(held: MmapReadGuard<'a>) -> Self {
        let sequence = Sequence::of(held.mm());
        // INVARIANT: The sequence count was read under the lock.
        Self { held, sequence }
    }
}

impl<'a> MmapYieldGuard<'a> {
    fn lock_killable(mm: &'a CallerMm<'a>) -> Result<Self> {
        Ok(MmapReadGuard::lock_again_killable(mm)?.into())
    }

    /// The lock as one that is held.
    pub(crate) fn held(&self) -> &MmapReadGuard<'a> {
        &self.held
    }

    /// When it is that nobody has had the lock for writing since.
    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Whether somebody may have had the lock for writing since.
    pub(crate) fn was_written_since(&self, sequence: Sequence) -> bool {
        // Without per-VMA locks there is no count.
        !cfg!(CONFIG_PER_VMA_LOCK) || self.sequence != sequence
    }

    /// Whether another thread waits for the lock.
    pub(crate) fn is_contended(&self) -> bool {
        // SAFETY: The address space is valid.
        unsafe { mlock::mlock_rs_mmap_lock_is_contended(self.held.caller_mm().as_raw()) != 0 }
    }

    /// Give the lock up for those who wait, and take it again when nobody does. Meanwhile fault in
    /// what lies between `addr` and `end` under the locks of the VMAs; when that is done, or cannot
    /// be done so, wait in the queue.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal arrived first. The lock is not held any more.
    pub(crate) fn let_others(self, addr: usize, end: usize) -> Result<Self> {
        let mm = self.held.mm();
        let sequence = self.sequence;
        let mut next = addr;
        drop(self);

        while next < end {
            if let Some(held) = MmapReadGuard::try_lock_again(mm) {
                return Ok(held.into());
            }
            let until = end.min(next.saturating_add(MEANWHILE));
            if !matches!(mm.fault_in_vmas(next, until, |_| true), Helped::All) {
                break;
            }
            next = until;
            if Sequence::of(mm) == sequence {
                // The writer may wait for this CPU.
                // SAFETY: The calling thread may sleep.
                unsafe { bindings::yield_() };
            }
        }
        // A reader that asks at once takes the lock away from a writer that is still waking up
        // (rwsem_down_read_slowpath() steals it), so wait until one was there.
        for _ in 0..HANDOVERS {
            // SAFETY: The address space is valid.
            let contended = unsafe { mlock::mlock_rs_mmap_lock_is_contended(mm.as_raw()) != 0 };
            if !contended || Sequence::of(mm) != sequence {
                break;
            }
            sleep_killable(HANDOVER);
        }
        Self::lock_killable(mm)
    }

    /// Give the lock up for about `micros` microseconds, and take it again.
    ///
    /// # Errors
    ///
    /// EINTR: a fatal signal arrived first. The lock is not held any more.
    pub(crate) fn sleep(self, micros: u32) -> Result<Self> {
        let mm = self.held.mm();
        drop(self);
        sleep_killable(micros);
        Self::lock_killable(mm)
    }

    /// Fault the page at `addr`, which lies in a VMA, in, and give the lock up if that has to wait
    /// for I/O or for a userfaultfd handler.
    ///
    /// # Errors
    ///
    /// As those of `get_user_pages()`, and the lock is still held: then the guard is in the first
    /// half of the pair. Without a guard: EINTR, as for [`Self::let_others`].
    pub(crate) fn fault_in_unlockable(
        self,
        addr: usize,
        access: FaultAccess,
        signals: Signals,
    ) -> Result<Unlockable<'a>, (Option<Self>, Error)> {
        let mm = self.held.mm();
        let flags = bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY
            | bindings::fault_flag_FAULT_FLAG_KILLABLE
            | access.fault_flags()
            | match signals {
                Signals::Fatal => 0,
                Signals::Any => bindings::fault_flag_FAULT_FLAG_INTERRUPTIBLE,
            };

        let Some(vma) = self.vma_at(addr).map(|vma| vma.as_raw()) else {
            return Err((Some(self), EFAULT));
        };
        // SAFETY: The mmap lock of `current->mm` is held for reading, and the VMA, which contains
        // the address, was found under it.
        let fault = unsafe { bindings::handle_mm_fault(vma, addr, flags, ptr::null_mut()) };

        if fault & bindings::vm_fault_reason_VM_FAULT_COMPLETED == 0 {
            if let Some(error) = fault_error(fault) {
                return Err((Some(self), error));
            }
            if fault & bindings::vm_fault_reason_VM_FAULT_RETRY == 0 {
                return Ok(Unlockable::Held(self));
            }
        }
        // VM_FAULT_RETRY and VM_FAULT_COMPLETED: the fault handler has released the lock.
        mem::forget(self);
        match Self::lock_killable(mm) {
            Ok(guard) => Ok(Unlockable::Gap(guard)),
            Err(error) => Err((None, error)),
        }
    }

    /// Whether `vma` may have been changed after `sequence`: by a thread that locked it for
    /// writing, as everything does that changes it, replaces it, or takes its pages by unmapping.
    pub(crate) fn may_have_changed(&self, vma: &Vma<'_>, sequence: Sequence) -> bool {
        vma.lock_sequence()
            .is_none_or(|changed| sequence.is_before(changed))
    }
}

// Looking is the same for all guards.
// SAFETY: By its invariants.
unsafe impl MmapLocked for MmapYieldGuard<'_> {
    fn caller_mm(&self) -> &CallerMm<'_> {
        self.held.caller_mm()
    }
}
