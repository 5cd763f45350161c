// SPDX-License-Identifier: GPL-2.0

//! What was done so far: for each open file in `/proc/PID/fdinfo/FD`, and for the whole module in
//! debugfs, `mlock_rs/totals`.
//!
//! Takes no lock. Relaxed counters, a few per call and none per page: numbers of calls that run
//! right now may not fit together.

#![deny(unsafe_code)]

use crate::lock::Outcome;
use kernel::{
    debugfs,
    fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::Delta, //
};

/// Counters of one open file, or of the module.
pub(crate) struct Stats {
    locks: Counter,
    unlocks: Counter,
    queries: Counter,
    locked: Counter,
    unlocked: Counter,
    populated: Counter,
    write_ns: Counter,
    read_ns: Counter,
    errors: [Counter; ERRORS.len() + 1],
}

/// The errnos that are counted one by one; the last counter has all others.
const ERRORS: [(Error, &str); 8] = [
    (EPERM, "EPERM"),
    (EINTR, "EINTR"),
    (E2BIG, "E2BIG"),
    (EAGAIN, "EAGAIN"),
    (ENOMEM, "ENOMEM"),
    (EFAULT, "EFAULT"),
    (EBUSY, "EBUSY"),
    (EINVAL, "EINVAL"),
];

/// All calls since the module was loaded.
static TOTALS: Stats = Stats::new();

struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn add(&self, n: u64) {
        if n != 0 {
            self.0.add(n, Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Stats {
    pub(crate) const fn new() -> Self {
        Self {
            locks: Counter::new(),
            unlocks: Counter::new(),
            queries: Counter::new(),
            locked: Counter::new(),
            unlocked: Counter::new(),
            populated: Counter::new(),
            write_ns: Counter::new(),
            read_ns: Counter::new(),
            errors: [const { Counter::new() }; ERRORS.len() + 1],
        }
    }

    fn each(&self, count: impl Fn(&Self)) {
        count(self);
        count(&TOTALS);
    }

    /// Count a LOCK, UNLOCK, LOCKV or UNLOCKV that came as far as its ranges.
    pub(crate) fn changed(&self, outcome: &Outcome, unlocks: bool) {
        self.each(|stats| {
            let (calls, bytes) = match unlocks {
                false => (&stats.locks, &stats.locked),
                true => (&stats.unlocks, &stats.unlocked),
            };
            calls.add(1);
            bytes.add(outcome.changed);
            stats.populated.add(outcome.populated);
            stats.write_ns.add(nanos(outcome.held.write));
            stats.read_ns.add(nanos(outcome.held.read));
        });
    }

    /// Count a QUERY.
    pub(crate) fn queried(&self) {
        self.each(|stats| stats.queries.add(1));
    }

    /// Count an ioctl that failed.
    pub(crate) fn failed(&self, error: Error) {
        let slot = error_slot(error);
        self.each(|stats| {
            if let Some(counter) = stats.errors.get(slot) {
                counter.add(1);
            }
        });
    }
}

/// Which of [`Stats::errors`] counts `error`.
fn error_slot(error: Error) -> usize {
    let known = ERRORS.iter().position(|&(known, _)| known == error);
    known.unwrap_or(ERRORS.len())
}

fn nanos(delta: Delta) -> u64 {
    u64::try_from(delta.as_nanos()).unwrap_or(0)
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lock-calls:\t{}", self.locks.get())?;
        writeln!(f, "unlock-calls:\t{}", self.unlocks.get())?;
        writeln!(f, "query-calls:\t{}", self.queries.get())?;
        writeln!(f, "locked-bytes:\t{}", self.locked.get())?;
        writeln!(f, "unlocked-bytes:\t{}", self.unlocked.get())?;
        writeln!(f, "populated-bytes:\t{}", self.populated.get())?;
        writeln!(f, "write-held-ns:\t{}", self.write_ns.get())?;
        writeln!(f, "read-held-ns:\t{}", self.read_ns.get())?;
        for (index, counter) in self.errors.iter().enumerate() {
            let name = ERRORS.get(index).map_or("other", |&(_, name)| name);
            writeln!(f, "errors-{name}:\t{}", counter.get())?;
        }
        Ok(())
    }
}

/// The contents of the debugfs file.
pub(crate) struct Totals;

impl debugfs::Writer for Totals {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&TOTALS, f)
    }
}

#[kunit_tests(mlock_rs_stats)]
mod tests {
    use super::*;

    #[test]
    fn every_known_errno_has_a_counter_of_its_own() {
        for (index, &(error, _)) in ERRORS.iter().enumerate() {
            assert_eq!(error_slot(error), index);
        }
    }

    #[test]
    fn all_other_errnos_share_the_last_counter() {
        for error in [ENOTTY, EIO, ENODEV, ESRCH] {
            assert_eq!(error_slot(error), ERRORS.len());
        }
        assert_eq!(Stats::new().errors.len(), ERRORS.len() + 1);
    }

    #[test]
    fn a_clock_that_went_backwards_counts_nothing() {
        assert_eq!(nanos(Delta::from_micros(3)), 3000);
        assert_eq!(nanos(Delta::ZERO), 0);
        assert_eq!(nanos(Delta::from_micros(-3)), 0);
    }
}
