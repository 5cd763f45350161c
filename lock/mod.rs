// SPDX-License-Identifier: GPL-2.0

//! The mechanism: request, plan, commit, downgrade, populate.
//!
//! Lock order: the mmap lock is the only lock that is taken here, once per call: for writing
//! ([`plan`], [`commit`]), then downgraded ([`populate`]), then released. [`readahead`] runs before
//! it without any lock of ours.

#![deny(unsafe_code)]

mod commit;
mod plan;
mod populate;
mod request;

pub(crate) use request::Request;

use crate::mm::{
    readahead::read_ahead,
    CallerMm,
    MmapWriteGuard, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// Why a range could not be locked, and where.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    error: Error,
    /// The page address at which it failed, 0 if the failure has none.
    addr: usize,
}

impl Failure {
    fn at(addr: usize, error: Error) -> Self {
        Self { error, addr }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, addr: 0 }
    }
}

/// What a call did. The fields are those of `struct mlock_rs_lock`.
pub(crate) struct Outcome {
    pub(crate) locked: u64,
    pub(crate) populated: u64,
    pub(crate) fail_addr: u64,
    pub(crate) nr_vmas: u32,
    pub(crate) result: Result,
}

impl Outcome {
    /// Nothing was done because of `error`.
    pub(crate) fn refused(error: Error) -> Self {
        Self::new(Err(error.into()))
    }

    fn new(result: Result<(), Failure>) -> Self {
        Self {
            locked: 0,
            populated: 0,
            fail_addr: result.err().map_or(0, |failure| failure.addr as u64),
            nr_vmas: 0,
            result: result.map_err(|failure| failure.error),
        }
    }

    /// The errno as a positive number, 0 for success.
    pub(crate) fn errno(&self) -> u32 {
        self.result.err().map_or(0, |e| e.to_errno().unsigned_abs())
    }
}

/// Lock what `request` asks for, in the address space of the calling thread.
///
/// Enters and leaves without locks. On success every page of the range was, at one instant before
/// the mmap lock was released, mapped by a VM_LOCKED VMA and resident, and no thread could have
/// changed the mapping between the VMA edit and that instant.
pub(crate) fn run(request: &Request) -> Outcome {
    let task = current!();
    let Some(mm) = CallerMm::new(task) else {
        // A kernel thread: it has no memory of its own to lock.
        return Outcome::refused(EINVAL);
    };
    if let Err(error) = plan::may_lock() {
        return Outcome::refused(error);
    }
    let Some(range) = request.range() else {
        return Outcome::new(Ok(()));
    };

    if request.populates() {
        read_ahead(&mm, range);
    }

    let mut guard = match MmapWriteGuard::lock_killable(&mm) {
        Ok(guard) => guard,
        Err(error) => return Outcome::refused(error),
    };
    let plan = match plan::look(&guard, request, range) {
        Ok(plan) => plan,
        Err(failure) => return Outcome::new(Err(failure)),
    };
    let locked_pages = match commit::commit(&mut guard, &plan) {
        Ok(pages) => pages,
        Err(failure) => return Outcome::new(Err(failure)),
    };

    let guard = guard.downgrade();
    let (populated, result) = populate::populate(&guard, range);
    drop(guard);

    Outcome {
        locked: (locked_pages as u64).saturating_mul(PAGE_SIZE as u64),
        populated: populated as u64,
        nr_vmas: plan.nr_vmas(),
        ..Outcome::new(result)
    }
}
