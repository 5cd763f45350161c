// SPDX-License-Identifier: GPL-2.0

//! The mechanism: request, plan, commit, downgrade, populate.
//!
//! Lock order: the mmap lock is the only lock that is taken here, once per call: for writing
//! ([`plan`], [`commit`]), then downgraded ([`populate`]), then released. [`read_ahead`] runs before
//! it without any lock of ours. A [`query`] takes it for reading only.

#![deny(unsafe_code)]

mod commit;
mod plan;
mod populate;
pub(crate) mod query;
mod request;

pub(crate) use request::Request;

use crate::mm::{
    readahead::read_ahead,
    CallerMm,
    LockMode,
    MmapWriteGuard, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
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

/// What a call did.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Bytes by which VmLck rose, or fell.
    pub(crate) changed: u64,
    /// Bytes seen to be resident.
    pub(crate) populated: u64,
    /// VMAs in the ranges.
    pub(crate) nr_vmas: u32,
    /// How long the mmap lock was held for writing and then for reading.
    pub(crate) held: Held,
    failure: Option<Failure>,
}

/// How long the mmap lock was held.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) write: Delta,
    pub(crate) read: Delta,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            write: Delta::ZERO,
            read: Delta::ZERO,
        }
    }
}

impl Outcome {
    /// Success, or the error that the call fails with.
    pub(crate) fn result(&self) -> Result {
        self.failure.map_or(Ok(()), |failure| Err(failure.error))
    }

    /// The errno as a positive number, 0 for success.
    pub(crate) fn errno(&self) -> u32 {
        self.failure
            .map_or(0, |failure| failure.error.to_errno().unsigned_abs())
    }

    /// The page address at which it failed, 0 if the failure has none.
    pub(crate) fn fail_addr(&self) -> u64 {
        self.failure.map_or(0, |failure| failure.addr as u64)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

/// Do what `request` asks for, in the address space of the calling thread.
///
/// Enters and leaves without locks. On success of a lock every page of the ranges was, at one
/// instant before the mmap lock was released, mapped by a VM_LOCKED VMA and resident, and no thread
/// could have changed the mapping between the VMA edit and that instant.
pub(crate) fn run(request: &Request) -> Outcome {
    change(request).unwrap_or_else(Outcome::from)
}

fn change(request: &Request) -> Result<Outcome, Failure> {
    let (mode, ranges) = (request.mode(), request.ranges());
    plan::may(mode)?;
    // To lock an empty range is held against the limit all the same, as by mlock(2).
    if ranges.is_empty() && mode == LockMode::Unlocked {
        return Ok(Outcome::default());
    }

    let task = current!();
    // A kernel thread has no memory of its own to lock.
    let mm = CallerMm::new(task).ok_or(EINVAL)?;
    let splits = commit::Splits::room_for(ranges)?;
    if mode == LockMode::Resident && plan::may_fit(ranges) {
        for &range in ranges {
            read_ahead(&mm, range);
        }
    }

    let mut guard = MmapWriteGuard::lock_killable(&mm)?;
    let locked = Instant::<Monotonic>::now();
    let plan = plan::look(&guard, request)?;
    let changed_pages = commit::commit(&mut guard, &plan, splits)?;
    let mut outcome = Outcome {
        changed: (changed_pages as u64).saturating_mul(PAGE_SIZE as u64),
        nr_vmas: plan.nr_vmas(),
        ..Outcome::default()
    };

    if mode == LockMode::Unlocked {
        drop(guard);
        outcome.held.write = locked.elapsed();
        return Ok(outcome);
    }

    let guard = guard.downgrade();
    let downgraded = Instant::<Monotonic>::now();
    let (populated, result) = populate::populate(&guard, ranges);
    drop(guard);

    outcome.held.write = downgraded - locked;
    outcome.held.read = downgraded.elapsed();
    outcome.failure = result.err();
    if mode == LockMode::Resident {
        outcome.populated = populated as u64;
    }
    Ok(outcome)
}
