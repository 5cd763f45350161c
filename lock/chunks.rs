// SPDX-License-Identifier: GPL-2.0

//! Chunks: what there is to populate, handed out piece by piece to the caller and its workers.
//!
//! Lock order: the lock of [`Job`] is a spinlock and the innermost one; nothing is called under it.
//! The mmap lock is held by the caller, and not looked at here.

use super::Failure;
use crate::mm::{
    CallerMm,
    Helped,
    PageAddr,
    PageRange,
    Work,
    Workers, //
};
use core::ops::Deref;
use kernel::{
    new_condvar,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        CondVar,
        SpinLock, //
    }, //
};

/// Size of a chunk, and what it is aligned to: that of a huge page on most machines, so that nobody
/// has to share one, and little enough to share the work evenly.
pub(super) const CHUNK: usize = 2 << 20;

/// More chunks than these that wait for the caller are not added to.
const LEFT_OVER: usize = 64;

/// The chunks of ranges, in the order of their addresses.
pub(super) struct Chunks<R> {
    ranges: R,
    next: usize,
    rest: Option<PageRange>,
}

impl<R: Deref<Target = [PageRange]>> Chunks<R> {
    pub(super) fn of(ranges: R) -> Self {
        let rest = ranges.first().copied();
        Self {
            ranges,
            next: 1,
            rest,
        }
    }

    /// The next chunk will start here.
    fn upto(&self) -> Option<usize> {
        self.rest.map(PageRange::start)
    }

    fn take(&mut self) -> Option<PageRange> {
        let (chunk, rest) = self.rest?.chunk(CHUNK);
        self.rest = rest;
        if rest.is_none() {
            self.rest = self.ranges.get(self.next).copied();
            self.next = self.next.saturating_add(1);
        }
        Some(chunk)
    }
}

/// How many chunks `ranges` have.
pub(super) fn count(ranges: &[PageRange]) -> usize {
    ranges.iter().fold(0usize, |sum, range| {
        sum.saturating_add(range.nr_chunks(CHUNK))
    })
}

/// Bytes of `ranges`.
pub(super) fn bytes(ranges: &[PageRange]) -> usize {
    ranges
        .iter()
        .fold(0usize, |sum, range| sum.saturating_add(range.len()))
}

/// Bytes of `ranges` that lie before `addr`.
pub(super) fn bytes_before(ranges: &[PageRange], addr: usize) -> usize {
    ranges.iter().fold(0usize, |sum, range| {
        sum.saturating_add(addr.min(range.end()).saturating_sub(range.start()))
    })
}

/// What a caller that asks for work gets.
pub(super) enum Turn {
    /// A chunk, or what is left of one.
    Chunk(PageRange),
    /// Nothing now; workers have chunks in hand, of which something may come back.
    Wait,
    /// All is done, or given up, and nobody has anything in hand.
    Over,
}

/// Where the work of a call comes from, and where its results go.
pub(super) trait Feed {
    /// What to do next. A `patient` caller does not get [`Turn::Wait`] but waits here.
    fn next(&mut self, patient: bool) -> Turn;
    /// The chunk has been populated up to `addr`: all of it, or the call ends.
    fn populated(&mut self, chunk: PageRange, addr: usize);
    /// A page of the chunk cannot be faulted in. Chunks before it are still wanted.
    fn failed(&mut self, failure: Failure);
    /// Bytes populated so far, whatever is missing between them.
    fn done(&self) -> usize;
    /// No chunk that was handed out lies at or after this address.
    fn upto(&self) -> usize;
    /// Give up, because of something that is not about one page.
    fn stop(&mut self);
    /// After [`Turn::Over`]: where it failed, and the address of the first page
    /// that was not populated.
    fn outcome(&self) -> (Option<Failure>, Option<usize>);
}

/// All chunks for the caller.
pub(super) struct Alone<'r> {
    chunks: Chunks<&'r [PageRange]>,
    done: usize,
    missing: Option<usize>,
    failure: Option<Failure>,
}

impl<'r> Alone<'r> {
    pub(super) fn new(ranges: &'r [PageRange]) -> Self {
        Self {
            chunks: Chunks::of(ranges),
            done: 0,
            missing: None,
            failure: None,
        }
    }
}

impl Feed for Alone<'_> {
    fn next(&mut self, _patient: bool) -> Turn {
        match self.missing {
            Some(_) => Turn::Over,
            None => self.chunks.take().map_or(Turn::Over, Turn::Chunk),
        }
    }

    fn populated(&mut self, chunk: PageRange, addr: usize) {
        self.done = self.done.saturating_add(addr.saturating_sub(chunk.start()));
        if addr < chunk.end() {
            self.missing = Some(addr);
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    fn done(&self) -> usize {
        self.done
    }

    fn upto(&self) -> usize {
        self.chunks.upto().unwrap_or(usize::MAX)
    }

    fn stop(&mut self) {
        if self.missing.is_none() {
            self.missing = self.chunks.upto();
        }
    }

    fn outcome(&self) -> (Option<Failure>, Option<usize>) {
        (self.failure, self.missing)
    }
}

/// What is known of a [`Job`].
struct State {
    chunks: Chunks<KVec<PageRange>>,
    /// What workers have left to the caller.
    left_over: KVec<PageRange>,
    /// Too much is left to the caller: the workers wait until it has caught up.
    paused: bool,
    /// How many chunks workers have in hand.
    in_hand: usize,
    /// Somebody has to give up, because of something that is not about one page.
    stopped: bool,
    failure: Option<Failure>,
    /// The lowest address that was not populated of a chunk that was handed out.
    missing: Option<usize>,
}

impl State {
    /// Nothing at or after this address is wanted any more.
    fn limit(&self) -> usize {
        self.failure.map_or(usize::MAX, |failure| failure.addr)
    }

    fn missing_from(&mut self, addr: usize) {
        self.missing = Some(self.missing.map_or(addr, |lowest| lowest.min(addr)));
    }

    fn fail(&mut self, failure: Failure) {
        if failure.addr < self.limit() {
            self.failure = Some(failure);
        }
    }

    fn take_chunk(&mut self) -> Option<PageRange> {
        if self.stopped || self.chunks.upto()? >= self.limit() {
            return None;
        }
        self.chunks.take()
    }

    /// The first one first: files are read in that order.
    fn take_left_over(&mut self) -> Option<PageRange> {
        while let Ok(range) = self.left_over.remove(0) {
            if !self.stopped && range.start() < self.limit() {
                return Some(range);
            }
            self.missing_from(range.start());
        }
        None
    }
}

/// The chunks of a call, for the caller and its workers.
#[pin_data]
pub(super) struct Job {
    #[pin]
    state: SpinLock<State>,
    /// A worker has put a chunk out of its hand.
    #[pin]
    changed: CondVar,
    /// Whether there is something for workers to claim.
    open: Atomic<bool>,
    /// [`State::limit`], or 0 if stopped, to be looked at for each page.
    limit: Atomic<usize>,
    done: Atomic<usize>,
}

impl Job {
    /// A job for `ranges` and up to `workers` workers.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn new(ranges: &[PageRange], workers: usize) -> Result<impl PinInit<Self>> {
        let mut own = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        own.extend_from_slice(ranges, GFP_KERNEL)?;
        // A worker that has a chunk in hand can always put it here.
        let left_over = KVec::with_capacity(LEFT_OVER.saturating_add(workers), GFP_KERNEL)?;

        Ok(pin_init!(Self {
            state <- new_spinlock!(State {
                chunks: Chunks::of(own),
                left_over,
                paused: false,
                in_hand: 0,
                stopped: false,
                failure: None,
                missing: None,
            }),
            changed <- new_condvar!(),
            open: Atomic::new(false),
            limit: Atomic::new(usize::MAX),
            done: Atomic::new(0),
        }))
    }

    /// A chunk for a worker.
    fn claim(&self) -> Option<PageRange> {
        let mut state = self.state.lock();
        let chunk = match state.left_over.len() >= LEFT_OVER {
            true => {
                // Only the caller takes that back.
                state.paused = true;
                None
            }
            false => state.take_chunk(),
        };
        match chunk {
            Some(_) => state.in_hand = state.in_hand.saturating_add(1),
            // So that nobody asks again and again.
            None => self.open.store(false, Relaxed),
        }
        chunk
    }

    /// A worker puts a chunk out of its hand.
    fn put(&self, chunk: PageRange, helped: Helped) {
        let mut state = self.state.lock();
        let end = match helped {
            Helped::All => chunk.end(),
            Helped::Left(addr) => {
                if let Some(rest) = chunk.rest(PageAddr::of(addr)) {
                    // Cannot fail: there is room for a chunk of each worker.
                    if state.left_over.push_within_capacity(rest).is_err() {
                        state.missing_from(addr);
                    }
                }
                addr
            }
            Helped::Stopped(addr) => {
                if addr < chunk.end() {
                    state.missing_from(addr);
                }
                // If not because of a page that has failed, then because of a fatal signal.
                state.stopped |= addr < state.limit();
                addr
            }
        };
        self.publish(&state);
        self.done.add(end.saturating_sub(chunk.start()), Relaxed);
        state.in_hand = state.in_hand.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    fn publish(&self, state: &State) {
        let limit = match state.stopped {
            true => 0,
            false => state.limit(),
        };
        self.limit.store(limit, Relaxed);
    }
}

impl Work for Job {
    fn is_there(&self) -> bool {
        self.open.load(Relaxed)
    }

    fn work(&self, mm: &CallerMm<'_>) {
        while let Some(chunk) = self.claim() {
            let wanted = |addr: usize| addr < self.limit.load(Relaxed);
            let helped = mm.fault_in_vmas(chunk.start(), chunk.end(), wanted);
            self.put(chunk, helped);
        }
    }
}

/// The caller's side of a [`Job`], with the workers that share it.
pub(super) struct Shared<'a> {
    job: &'a Job,
    workers: &'a Workers<Job>,
    begun: u32,
}

impl<'a> Shared<'a> {
    pub(super) fn new(job: &'a Job, workers: &'a Workers<Job>) -> Self {
        Self {
            job,
            workers,
            begun: 0,
        }
    }

    fn wake(&self) {
        self.job.open.store(true, Relaxed);
        self.workers.wake();
    }
}

impl Feed for Shared<'_> {
    /// Waits for workers that have a page in hand. They do not wait for anything but that page,
    /// and end with the caller when a fatal signal arrives.
    fn next(&mut self, patient: bool) -> Turn {
        // The caller begins alone: the first fault in an anonymous VMA makes its `anon_vma`, and a
        // worker cannot do that while a writer waits for the mmap lock.
        self.begun = self.begun.saturating_add(1);
        if self.begun == 2 {
            self.wake();
        }
        let mut state = self.job.state.lock();
        loop {
            if let Some(range) = state.take_left_over() {
                if state.paused && state.left_over.len() < LEFT_OVER / 2 {
                    state.paused = false;
                    drop(state);
                    self.wake();
                }
                return Turn::Chunk(range);
            }
            if let Some(chunk) = state.take_chunk() {
                return Turn::Chunk(chunk);
            }
            if state.in_hand == 0 {
                return Turn::Over;
            }
            if !patient {
                return Turn::Wait;
            }
            self.job.changed.wait(&mut state);
        }
    }

    fn populated(&mut self, chunk: PageRange, addr: usize) {
        self.job
            .done
            .add(addr.saturating_sub(chunk.start()), Relaxed);
        if addr < chunk.end() {
            self.job.state.lock().missing_from(addr);
        }
    }

    fn failed(&mut self, failure: Failure) {
        let mut state = self.job.state.lock();
        state.fail(failure);
        self.job.publish(&state);
    }

    fn done(&self) -> usize {
        self.job.done.load(Relaxed)
    }

    fn upto(&self) -> usize {
        self.job.state.lock().chunks.upto().unwrap_or(usize::MAX)
    }

    fn stop(&mut self) {
        let mut state = self.job.state.lock();
        state.stopped = true;
        self.job.publish(&state);
    }

    fn outcome(&self) -> (Option<Failure>, Option<usize>) {
        let state = self.job.state.lock();
        let rest = state.chunks.upto();
        let missing = match (state.missing, rest) {
            (Some(missing), Some(rest)) => Some(missing.min(rest)),
            (missing, rest) => missing.or(rest),
        };
        (state.failure, missing)
    }
}
