// SPDX-License-Identifier: GPL-2.0

//! The mechanism: request, plan, commit, downgrade, populate.
//!
//! Lock order: the mmap lock, once per call: for writing ([`plan`], [`commit`]), then downgraded
//! ([`populate`]), then released; a call with YIELD may give up and take again the read lock. Below
//! it the lock of [`chunks`]. [`read_ahead`] runs before them without any lock of ours, and so do
//! the workers begin and end. A [`query`] takes the mmap lock for reading only.

#![deny(unsafe_code)]

mod chunks;
mod commit;
mod kept;
mod one_or_many;
mod plan;
mod populate;
pub(crate) mod query;
mod request;

pub(crate) use request::Request;

use self::{
    chunks::{
        Alone,
        Feed,
        Job,
        Shared, //
    },
    kept::Kept,
    populate::{
        Strict,
        Tally,
        Yielding, //
        NOWHERE,
    }, //
};
use crate::{
    mm::{
        allowed_cpus,
        readahead::read_ahead,
        uapi,
        CallerMm,
        LockMode,
        MmapReadGuard,
        MmapWriteGuard,
        PageRange,
        Signals,
        VmaIterator,
        Workers, //
    },
    progress::{
        Progress,
        Running, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
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
    /// Threads that helped to populate.
    pub(crate) nr_helpers: u32,
    /// How often the mmap lock was given up.
    pub(crate) nr_gaps: u32,
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
/// could have changed the mapping unseen between the VMA edit and that instant: not at all, or, in
/// a call that gives the lock up for others, not without being found out.
pub(crate) fn run(request: &Request, progress: &Progress) -> Outcome {
    change(request, progress).unwrap_or_else(Outcome::from)
}

fn change(request: &Request, progress: &Progress) -> Result<Outcome, Failure> {
    let (mode, ranges) = (request.mode(), request.ranges());
    plan::may(mode)?;
    // To lock an empty range is held against the limit all the same, as by mlock(2).
    if ranges.is_empty() && mode == LockMode::Unlocked {
        return Ok(Outcome::default());
    }

    let task = current!();
    // A kernel thread has no memory of its own to lock.
    let mm = CallerMm::new(task).ok_or(EINVAL)?;
    let edits = commit::Edits::room_for(ranges)?;
    let mut helpers = None;
    if mode == LockMode::Resident && plan::may_fit(ranges) {
        read_ahead(&mm, ranges, request.manner().signals);
        // Without memory for helpers the caller does it alone.
        helpers = hire(request).unwrap_or(None);
    }

    let mut guard = MmapWriteGuard::lock_killable(&mm)?;
    let locked = Instant::<Monotonic>::now();
    let mut plan = plan::look(&guard, request, edits)?;
    let mut kept = match request.manner().slice {
        Some(slice) if mode != LockMode::Unlocked => Some((slice, Kept::room_for(plan.nr_vmas())?)),
        _ => None,
    };
    let changed_pages = commit::commit(&mut guard, &mut plan)?;
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
    if let Some((_, kept)) = &mut kept {
        kept.take_down(&guard, ranges);
    }

    let guard = guard.downgrade();
    let downgraded = Instant::<Monotonic>::now();
    outcome.held.write = downgraded - locked;
    let populating = Populating {
        guard,
        since: downgraded,
        kept: kept.as_mut().map(|(slice, kept)| (*slice, kept)),
        signals: request.manner().signals,
        ranges,
        running: progress.begin(chunks::bytes(ranges)),
        outcome: &mut outcome,
    };
    let missing = match &helpers {
        None => populating.run(&mut Alone::new(ranges)),
        Some((job, workers)) => populating.run(&mut Shared::new(job, workers)),
    };

    outcome.nr_helpers = helpers.map_or(0, |(_, workers)| workers.number() as u32);
    if mode == LockMode::Resident {
        let populated = missing.map_or_else(
            || chunks::bytes(ranges),
            |missing| chunks::bytes_before(ranges, missing),
        );
        outcome.populated = populated as u64;
    }
    Ok(outcome)
}

/// Least that it takes a thread to be worth its while, in bytes, if the caller leaves it to us.
const WORTH_A_THREAD: usize = 16 << 20;

/// The workers of a call, and what they work on: as many as `request` asks for, as far as there is
/// work and they can be had; `None` if that is nobody.
///
/// Before any lock is taken, and before it is known whether there is anything to do.
fn hire(request: &Request) -> Result<Option<(Arc<Job>, Workers<Job>)>> {
    let ranges = request.ranges();
    let threads = match request.manner().threads {
        Some(threads) => threads.min(chunks::count(ranges)),
        None => match chunks::bytes(ranges) / WORTH_A_THREAD {
            0 | 1 => 1,
            worth => worth
                .min(allowed_cpus())
                .min(uapi::MLOCK_RS_MAX_WORKERS as usize),
        },
    };
    let Some(wanted @ 1..) = threads.checked_sub(1) else {
        return Ok(None);
    };
    let job = Arc::pin_init(Job::new(ranges, wanted)?, GFP_KERNEL)?;
    Ok(Workers::hire(&job, wanted)?.map(|workers| (job, workers)))
}

/// A call from its downgrade to its end.
struct Populating<'a, 'c> {
    guard: MmapReadGuard<'a>,
    /// Since when it is held for reading.
    since: Instant<Monotonic>,
    /// For a call that gives the lock up: for how long not, and what it has locked.
    kept: Option<(Delta, &'c mut Kept)>,
    signals: Signals,
    ranges: &'c [PageRange],
    running: Running<'c>,
    outcome: &'c mut Outcome,
}

impl Populating<'_, '_> {
    /// Populate and release the lock. Returns the address of the first page that was not seen to be
    /// resident, if there is one.
    fn run(mut self, feed: &mut impl Feed) -> Option<usize> {
        let strict = self.kept.is_none();
        let mut touched = None;
        let ended = match self.kept {
            None => {
                let mut vmas = VmaIterator::new(&self.guard);
                let hold = Strict::new(&self.guard, &mut vmas, self.signals);
                let ended = populate::populate(hold, feed, &mut self.running).map(|_| ());
                drop(self.guard);
                self.outcome.held.read = self.since.elapsed();
                ended
            }
            Some((slice, kept)) => {
                let mut tally = Tally::default();
                let hold = Yielding::new(
                    self.guard,
                    self.since,
                    self.signals,
                    slice,
                    kept,
                    &mut tally,
                );
                let ended = populate::populate(hold, feed, &mut self.running);
                // What comes before a page that has failed was all there at one instant, too.
                let ended = ended
                    .and_then(|hold| {
                        let (_, missing) = feed.outcome();
                        populate::repeat_touched(hold, self.ranges, missing.unwrap_or(usize::MAX))
                    })
                    .map(drop);
                touched = kept.first_touched();
                self.outcome.nr_gaps = tally.gaps;
                self.outcome.held.read = tally.held();
                ended
            }
        };

        let (failure, missing) = feed.outcome();
        let (failure, missing) = match (ended, failure) {
            (Err(ended), _) if ended.error == EINTR => {
                // The next call begins where this one has left something out, or was to look again.
                let first = match ended.addr {
                    NOWHERE => lowest(missing, touched),
                    addr => lowest(lowest(missing, touched), Some(addr)),
                };
                let end = self.ranges.last().map_or(0, |range| range.end());
                match first {
                    // Everything was there before the signal came, and the lock was held.
                    None if strict => (None, None),
                    _ => (Some(Failure::at(first.unwrap_or(end), EINTR)), first),
                }
            }
            // Also if a page has failed: what is missing may come before it, and is in no result
            // then.
            (Err(ended), _) => {
                let first = lowest(missing, touched);
                (Some(ended), lowest(first, Some(ended.addr)))
            }
            (Ok(()), Some(failure)) => (Some(failure), lowest(missing, Some(failure.addr))),
            // A worker was killed before the caller saw it.
            (Ok(()), None) => (missing.map(|addr| Failure::at(addr, EINTR)), missing),
        };
        self.outcome.failure = failure;
        missing
    }
}

/// The lower one of two addresses, as far as there are any.
fn lowest(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
