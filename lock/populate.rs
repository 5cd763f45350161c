// SPDX-License-Identifier: GPL-2.0

//! Populate: fault the pages of the ranges in.
//!
//! Lock state: the mmap lock is held for reading on entry. [`Strict`] never gives it up, not even
//! to wait for I/O: a fault that would sleep starts its I/O and comes back, and the wait is a
//! killable sleep. [`Yielding`] gives it up for others, and looks at what they did. On exit the
//! lock is still held, but for a [`Yielding`] call that ends because it could not have it again or
//! found the ranges changed.

use super::{
    chunks::{
        Feed,
        Turn, //
    },
    kept::Kept,
    Failure, //
};
use crate::{
    mm::{
        resched_if_due,
        sleep_killable,
        FaultAccess,
        MmapLocked,
        MmapReadGuard,
        MmapYieldGuard,
        PageAddr,
        PageRange,
        Progress,
        Sequence,
        Signals,
        Unlockable,
        Vma,
        VmaIterator, //
    },
    progress::Running, //
};
use kernel::{
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long to sleep when a page waits for I/O, in microseconds. It begins with what a fast disk
/// takes to answer and doubles each time the page is still not there.
const WAIT_MIN: u32 = 50;
const WAIT_MAX: u32 = 16_000;

/// Fewer bytes than these are asked for at once.
const WORTH_A_LOOK: usize = 64 << 10;

/// For a call that ends while only workers have something to do.
pub(super) const NOWHERE: usize = usize::MAX - 1;

impl Signals {
    /// End a call that has got to `addr`, and would go on to `end`, if any signal may end it and
    /// there is one. What has no next page is not ended.
    fn interrupt(self, addr: usize, end: usize) -> Result<(), Failure> {
        match addr < end && self == Signals::Any && self.is_pending() {
            true => Err(Failure::at(addr, EINTR)),
            false => Ok(()),
        }
    }
}

/// How the mmap lock is held while a call populates.
pub(super) trait Hold: Sized {
    /// The lock.
    fn held(&self) -> &MmapReadGuard<'_>;

    /// The first VMA that ends after `addr`; it may start after `addr` too.
    fn find_vma(&mut self, addr: usize) -> Option<Vma<'_>>;

    /// How many bytes to fault in at a time at the most.
    fn batch(&self) -> usize;

    /// Some pages were faulted in; those up to `end` are next, from `addr` on. Nothing handed out
    /// so far lies at or after `upto`.
    fn went_on(self, addr: usize, end: usize, upto: impl Fn() -> usize) -> Result<Self, Failure>;

    /// Before a chunk from `addr` to `end`, after another one: is it time to end, or for others?
    fn between(self, addr: usize, end: usize, upto: impl Fn() -> usize) -> Result<Self, Failure>;

    /// Whether the caller can wait for workers for as long as that takes.
    fn is_patient(&self) -> bool;

    /// There is nothing to do for the caller, but workers are not done.
    fn idle(self, upto: impl Fn() -> usize) -> Result<Self, Failure>;

    /// The page at `addr` waits for something. Wait too, and come back.
    ///
    /// # Errors
    ///
    /// [`Ended::Page`]: it cannot be faulted in.
    fn wait(
        self,
        addr: usize,
        access: FaultAccess,
        upto: impl Fn() -> usize,
    ) -> Result<Self, Ended<Self>>;
}

/// Why populating does not go on.
pub(super) enum Ended<H> {
    /// Because of a page; the lock is held.
    Page(H, Failure),
    /// Because of a signal, or because the ranges have changed. The lock may not be held any more.
    Call(Failure),
}

impl<H> From<Failure> for Ended<H> {
    fn from(failure: Failure) -> Self {
        Ended::Call(failure)
    }
}

/// Never gives the lock up.
pub(super) struct Strict<'g> {
    guard: &'g MmapReadGuard<'g>,
    vmas: &'g mut VmaIterator<'g>,
    signals: Signals,
    wait: u32,
    /// The last wait was for nothing, if there is another one.
    waited: bool,
}

impl<'g> Strict<'g> {
    pub(super) fn new(
        guard: &'g MmapReadGuard<'g>,
        vmas: &'g mut VmaIterator<'g>,
        signals: Signals,
    ) -> Self {
        Self {
            guard,
            vmas,
            signals,
            wait: WAIT_MIN,
            waited: false,
        }
    }
}

impl Hold for Strict<'_> {
    fn held(&self) -> &MmapReadGuard<'_> {
        self.guard
    }

    fn find_vma(&mut self, addr: usize) -> Option<Vma<'_>> {
        self.vmas.find(addr)
    }

    fn batch(&self) -> usize {
        usize::MAX
    }

    fn went_on(mut self, addr: usize, end: usize, _: impl Fn() -> usize) -> Result<Self, Failure> {
        self.wait = WAIT_MIN;
        self.waited = false;
        self.signals.interrupt(addr, end)?;
        Ok(self)
    }

    fn between(self, addr: usize, end: usize, _: impl Fn() -> usize) -> Result<Self, Failure> {
        self.signals.interrupt(addr, end)?;
        Ok(self)
    }

    fn is_patient(&self) -> bool {
        self.signals == Signals::Fatal
    }

    fn idle(self, _: impl Fn() -> usize) -> Result<Self, Failure> {
        sleep_killable(WAIT_MIN);
        self.signals.interrupt(NOWHERE, usize::MAX)?;
        Ok(self)
    }

    fn wait(
        mut self,
        addr: usize,
        _: FaultAccess,
        _: impl Fn() -> usize,
    ) -> Result<Self, Ended<Self>> {
        if self.signals.is_pending() {
            return Err(Failure::at(addr, EINTR).into());
        }
        // What is being read is waited for until it is there. But that ends with a fatal signal
        // only, and if it was for nothing, there is a rest before the next time.
        let deaf = self.signals == Signals::Any;
        self.waited = !deaf && !self.waited && self.guard.wait_for_file_page(addr);
        if !self.waited {
            sleep_killable(self.wait);
            self.wait = self.wait.saturating_mul(2).min(WAIT_MAX);
        }
        Ok(self)
    }
}

/// Least and most bytes to fault in between two looks at the clock.
const BATCH_MIN: usize = 64 << 10;
const BATCH_MAX: usize = 2 << 20;

/// Gives the lock up whenever somebody waits for it and a slice is over, and to wait for a page.
pub(super) struct Yielding<'a, 'k> {
    guard: MmapYieldGuard<'a>,
    pace: Pace<'k>,
}

/// What a [`Yielding`] call remembers across gaps.
struct Pace<'k> {
    kept: &'k mut Kept,
    signals: Signals,
    slice: Delta,
    /// Since when the time for which the lock is held is to be counted.
    since: Instant<Monotonic>,
    /// Since when the lock is held and nothing but populating was done.
    slice_began: Instant<Monotonic>,
    /// When the last batch was over.
    last: Instant<Monotonic>,
    batch: usize,
    /// Waits since a page was faulted in.
    waits: u32,
    /// Whether the lock is held, and the time is to be counted.
    counted: bool,
    tally: &'k mut Tally,
}

/// How a call held the lock that it gave up now and then.
#[derive(Default)]
pub(super) struct Tally {
    /// How often the lock was given up and taken again.
    pub(super) gaps: u32,
    /// Nanoseconds that it was held.
    held: i64,
}

impl Tally {
    /// How long the lock was held.
    pub(super) fn held(&self) -> Delta {
        Delta::from_nanos(self.held)
    }
}

impl<'a, 'k> Yielding<'a, 'k> {
    /// The lock is held for reading `since` then.
    pub(super) fn new(
        guard: MmapReadGuard<'a>,
        since: Instant<Monotonic>,
        signals: Signals,
        slice: Delta,
        kept: &'k mut Kept,
        tally: &'k mut Tally,
    ) -> Self {
        let pace = Pace {
            kept,
            signals,
            slice,
            since,
            slice_began: since,
            last: since,
            batch: BATCH_MIN,
            waits: 0,
            counted: true,
            tally,
        };
        Self {
            guard: guard.into(),
            pace,
        }
    }

    /// Between two batches: is it time to end, or for others?
    fn pause(self, addr: usize, end: usize, upto: impl Fn() -> usize) -> Result<Self, Failure> {
        self.pace.signals.interrupt(addr, end)?;
        // What is at its end may be all: then it is better to be done.
        if addr >= end {
            return Ok(self);
        }
        if self.pace.slice_began.elapsed() < self.pace.slice || !self.guard.is_contended() {
            return Ok(self);
        }
        // Nothing to do meanwhile, if it is at its end.
        self.gap(addr, upto, |guard| match addr {
            NOWHERE => guard.let_others(end, end),
            _ => guard.let_others(addr, end),
        })
    }

    fn is_userfaultfd_armed(&self, addr: usize) -> bool {
        self.guard
            .vma_at(addr)
            .is_some_and(|vma| vma.is_userfaultfd_armed())
    }

    /// Give the lock up in some way, and look whether all is still there when it is back.
    fn gap(
        self,
        addr: usize,
        upto: impl Fn() -> usize,
        give_up: impl FnOnce(MmapYieldGuard<'a>) -> Result<MmapYieldGuard<'a>>,
    ) -> Result<Self, Failure> {
        let Self { guard, mut pace } = self;
        let since = guard.sequence();
        pace.before_gap();
        let guard = give_up(guard).map_err(|error| Failure::at(addr, error))?;
        pace.after_gap(&guard, since, addr, upto())?;
        Ok(Self { guard, pace })
    }
}

impl Pace<'_> {
    fn before_gap(&mut self) {
        self.tally.gaps = self.tally.gaps.saturating_add(1);
        self.count();
    }

    fn count(&mut self) {
        if self.counted {
            let held = self.since.elapsed().as_nanos();
            self.tally.held = self.tally.held.saturating_add(held);
        }
        self.counted = false;
    }

    fn count_on(&mut self) {
        self.counted = true;
        self.since = Instant::now();
        self.last = self.since;
    }

    /// The gap did not take place.
    fn no_gap(&mut self) {
        self.tally.gaps = self.tally.gaps.saturating_sub(1);
        self.count_on();
    }

    fn after_gap(
        &mut self,
        guard: &MmapYieldGuard<'_>,
        since: Sequence,
        addr: usize,
        upto: usize,
    ) -> Result<(), Failure> {
        self.count_on();
        if guard.was_written_since(since) {
            self.kept.look_again(guard, since, upto)?;
        }
        self.slice_began = Instant::now();
        self.last = self.slice_began;
        // A fatal signal ends it here too; what others signal is looked at between batches.
        match self.signals.is_pending() {
            true => Err(Failure::at(addr, EINTR)),
            false => Ok(()),
        }
    }

    /// A batch is over: how large may the next one be so that a slice is not much longer than it
    /// should be?
    fn measure(&mut self) {
        let now = Instant::now();
        let took = (now - self.last).as_nanos();
        let slice = self.slice.as_nanos();
        if took > slice / 4 {
            self.batch = (self.batch / 2).max(BATCH_MIN);
        } else if took < slice / 8 {
            self.batch = self.batch.saturating_mul(2).min(BATCH_MAX);
        }
        self.last = now;
    }
}

impl Drop for Pace<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

impl Hold for Yielding<'_, '_> {
    fn held(&self) -> &MmapReadGuard<'_> {
        self.guard.held()
    }

    fn find_vma(&mut self, addr: usize) -> Option<Vma<'_>> {
        self.guard.find_vma(addr)
    }

    fn batch(&self) -> usize {
        self.pace.batch
    }

    fn went_on(
        mut self,
        addr: usize,
        end: usize,
        upto: impl Fn() -> usize,
    ) -> Result<Self, Failure> {
        self.pace.waits = 0;
        self.pace.measure();
        self.pause(addr, end, upto)
    }

    fn between(self, addr: usize, end: usize, upto: impl Fn() -> usize) -> Result<Self, Failure> {
        self.pause(addr, end, upto)
    }

    fn is_patient(&self) -> bool {
        false
    }

    fn idle(mut self, upto: impl Fn() -> usize) -> Result<Self, Failure> {
        sleep_killable(WAIT_MIN);
        self.pace.last = Instant::now();
        self.pause(NOWHERE, usize::MAX, upto)
    }

    fn wait(
        mut self,
        addr: usize,
        access: FaultAccess,
        upto: impl Fn() -> usize,
    ) -> Result<Self, Ended<Self>> {
        if self.pace.signals.is_pending() {
            return Err(Failure::at(addr, EINTR).into());
        }
        // The fault below waits for what the page waits for. If it was for nothing, there is a rest
        // before it tries again. And it does not end with every signal, but for userfaultfd.
        let waits = self.pace.waits;
        self.pace.waits = waits.saturating_add(1);
        let deaf = self.pace.signals == Signals::Any && !self.is_userfaultfd_armed(addr);
        if deaf || waits % 2 == 1 {
            let micros = WAIT_MIN.saturating_mul(1 << waits.min(9)).min(WAIT_MAX);
            return Ok(self.gap(addr, upto, |guard| guard.sleep(micros))?);
        }

        let Self { guard, mut pace } = self;
        let since = guard.sequence();
        pace.before_gap();
        match guard.fault_in_unlockable(addr, access, pace.signals) {
            Ok(Unlockable::Held(guard)) => {
                pace.no_gap();
                Ok(Self { guard, pace })
            }
            Ok(Unlockable::Gap(guard)) => {
                pace.after_gap(&guard, since, addr, upto())?;
                Ok(Self { guard, pace })
            }
            Err((Some(guard), error)) => {
                pace.no_gap();
                let failure = Failure::at(addr, posix_error(error));
                Err(Ended::Page(Self { guard, pace }, failure))
            }
            Err((None, error)) => Err(Failure::at(addr, error).into()),
        }
    }
}

/// What to do at an address.
enum Step {
    /// Nothing, up to this address.
    Skip(usize),
    /// Fault pages in, up to this address.
    Fault(usize, FaultAccess),
    /// No page can be faulted in here.
    Never,
}

/// What to do with what lies between `addr` and `end`.
///
/// As `__mm_populate()` does: PFNMAP and I/O mappings are skipped, so are lock-on-fault ones;
/// private writable ones are faulted in for writing; the rest for reading, even where the caller
/// may only write or execute.
fn look(hold: &mut impl Hold, addr: usize, end: usize) -> Step {
    let vma = match hold.find_vma(addr) {
        Some(vma) if vma.start() <= addr => vma,
        // Unreachable while the lock is held, since the plan found no hole.
        _ => return Step::Never,
    };
    let end = end.min(vma.end());
    if vma.is_never_populated() || vma.is_lock_on_fault() {
        return Step::Skip(end);
    }
    vma.fault_access()
        .map_or(Step::Never, |access| Step::Fault(end, access))
}

/// Fault in the pages of `chunk` from `addr` on, which is left at the first page that was not seen
/// to be resident. Before it waits, it tells `reached` how far it is. Small chunks are expected to
/// be `resident` as the one before was.
fn fill<H: Hold>(
    mut hold: H,
    chunk: PageRange,
    addr: &mut usize,
    resident: &mut bool,
    upto: impl Fn() -> usize,
    mut reached: impl FnMut(usize),
) -> Result<H, Ended<H>> {
    // It costs to look, and memory that is not resident yet is so from the start of a chunk on.
    *resident |= chunk.len() >= WORTH_A_LOOK;
    // Where a page has failed before it was read once more, without those that were read with it.
    let mut alone = None;
    let mut is_worth_another_read = |hold: &H, addr: usize| {
        alone.replace(addr) != Some(addr) && hold.held().forget_unread(addr)
    };
    while *addr < chunk.end() {
        let (end, access) = match look(&mut hold, *addr, chunk.end()) {
            Step::Fault(end, access) => (end, access),
            Step::Skip(end) => {
                *addr = end;
                continue;
            }
            Step::Never => return Err(Ended::Page(hold, Failure::at(*addr, ENOMEM))),
        };
        let end = end.min(addr.saturating_add(hold.batch()));
        if *resident {
            let next = hold.held().resident_until(*addr, end, access);
            *resident = next == end;
            if next > *addr {
                *addr = next;
                hold = hold.went_on(next, chunk.end(), &upto)?;
                continue;
            }
        }
        match hold.held().fault_in(*addr, end, access) {
            Ok(Progress::Until(next)) => {
                *addr = next;
                resched_if_due();
                hold = hold.went_on(next, chunk.end(), &upto)?;
            }
            Ok(Progress::Blocked) => {
                reached(*addr);
                hold = match hold.wait(*addr, access, &upto) {
                    Err(Ended::Page(hold, _)) if is_worth_another_read(&hold, *addr) => hold,
                    waited => waited?,
                };
            }
            Err(EINTR) => return Err(Failure::at(*addr, EINTR).into()),
            Err(EFAULT) if is_worth_another_read(&hold, *addr) => {}
            Err(error) => {
                let failure = Failure::at(*addr, posix_error(error));
                return Err(Ended::Page(hold, failure));
            }
        }
    }
    Ok(hold)
}

/// Fault in all chunks of `feed`. What became of pages is left in it.
///
/// # Errors
///
/// What is not about one page: EINTR, for a signal; ESTALE, for ranges that have changed.
pub(super) fn populate<H: Hold, F: Feed>(
    mut hold: H,
    feed: &mut F,
    running: &mut Running<'_>,
) -> Result<H, Failure> {
    let mut begun = false;
    let mut resident = true;
    let ended = loop {
        let chunk = match feed.next(hold.is_patient()) {
            Turn::Chunk(chunk) => chunk,
            Turn::Wait => match hold.idle(|| feed.upto()) {
                Ok(held) => {
                    hold = held;
                    running.reached(feed.done());
                    continue;
                }
                Err(failure) => break failure,
            },
            Turn::Over => return Ok(hold),
        };
        if begun {
            hold = match hold.between(chunk.start(), chunk.end(), || feed.upto()) {
                Ok(held) => held,
                Err(failure) => {
                    feed.populated(chunk, chunk.start());
                    break failure;
                }
            };
        }
        begun = true;
        let mut addr = chunk.start();
        let reached = |addr: usize| {
            let part = addr.saturating_sub(chunk.start());
            running.reached(feed.done().saturating_add(part));
        };
        match fill(
            hold,
            chunk,
            &mut addr,
            &mut resident,
            || feed.upto(),
            reached,
        ) {
            Ok(held) => hold = held,
            Err(Ended::Page(held, failure)) => {
                hold = held;
                feed.failed(failure);
            }
            Err(Ended::Call(failure)) => {
                feed.populated(chunk, addr);
                break failure;
            }
        }
        feed.populated(chunk, addr);
        running.reached(feed.done());
    };
    feed.stop();
    // Until nobody has a chunk in hand.
    while !matches!(feed.next(true), Turn::Over) {}
    Err(ended)
}

/// Go over what others have changed before `upto` during the gaps after it was populated, until
/// there has been no such change and the lock has not been given up since.
///
/// # Errors
///
/// As for [`populate`], and those of pages.
pub(super) fn repeat_touched<'a, 'k>(
    mut hold: Yielding<'a, 'k>,
    ranges: &[PageRange],
    mut upto: usize,
) -> Result<Yielding<'a, 'k>, Failure> {
    let mut failed = None;
    while let Some((start, end)) = hold.pace.kept.take_touched() {
        let end = PageAddr::of(end.get().min(upto));
        // Others may change VMAs faster than they can be gone over. With slices that grow the call
        // comes to an end.
        let slice = hold.pace.slice.as_nanos().saturating_mul(2);
        hold.pace.slice = Delta::from_nanos(slice);
        for part in ranges.iter().filter_map(|range| range.within(start, end)) {
            let mut addr = part.start();
            hold = match fill(hold, part, &mut addr, &mut true, || usize::MAX, |_| ()) {
                Ok(hold) => hold,
                Err(Ended::Page(hold, failure)) => {
                    // What comes before it may have been changed meanwhile, too.
                    upto = failure.addr;
                    failed = Some(failure);
                    hold
                }
                Err(Ended::Call(failure)) => return Err(failure),
            };
            if part.end() > upto {
                break;
            }
        }
    }
    failed.map_or(Ok(hold), Err)
}

/// What mlock(2) says for an error of `get_user_pages()`: `__mlock_posix_error_return()`.
pub(super) fn posix_error(error: Error) -> Error {
    if error == EFAULT {
        ENOMEM
    } else if error == ENOMEM {
        EAGAIN
    } else {
        error
    }
}

#[kunit_tests(mlock_rs_populate)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_mlock() {
        assert_eq!(posix_error(EFAULT), ENOMEM);
        assert_eq!(posix_error(ENOMEM), EAGAIN);
    }

    #[test]
    fn other_errors_stay() {
        for error in [EINTR, EAGAIN, EBUSY, EINVAL, EIO] {
            assert_eq!(posix_error(error), error);
        }
    }
}
