// SPDX-License-Identifier: GPL-2.0

//! How far the calls are that run now through an open file: PROGRESS.
//!
//! Takes no lock. Relaxed counters: a reader may see a call that begins or ends half counted.

#![deny(unsafe_code)]

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    }, //
};

/// The running calls of one open file, all together.
pub(crate) struct Progress {
    calls: Atomic<u32>,
    wanted: Atomic<u64>,
    populated: Atomic<u64>,
}

impl Progress {
    pub(crate) const fn new() -> Self {
        Self {
            calls: Atomic::new(0),
            wanted: Atomic::new(0),
            populated: Atomic::new(0),
        }
    }

    /// A call begins to populate `wanted` bytes.
    pub(crate) fn begin(&self, wanted: usize) -> Running<'_> {
        let wanted = wanted as u64;
        self.calls.add(1, Relaxed);
        self.wanted.add(wanted, Relaxed);
        Running {
            progress: self,
            wanted,
            populated: 0,
        }
    }

    /// Number of running calls, bytes that they are to populate, bytes that they have populated.
    pub(crate) fn now(&self) -> (u32, u64, u64) {
        let wanted = self.wanted.load(Relaxed);
        // Pairs with the end of a call: who misses its bytes misses the call too.
        let populated = self.populated.load(Acquire).min(wanted);
        match self.calls.load(Relaxed) {
            0 => (0, 0, 0),
            calls => (calls, wanted, populated),
        }
    }
}

/// A call that populates. Dropped when it ends.
pub(crate) struct Running<'a> {
    progress: &'a Progress,
    wanted: u64,
    populated: u64,
}

impl Running<'_> {
    /// The call has populated so many bytes since it began. It never takes something back.
    pub(crate) fn reached(&mut self, populated: usize) {
        let populated = (populated as u64).min(self.wanted);
        let more = populated.saturating_sub(self.populated);
        if more != 0 {
            self.progress.populated.add(more, Relaxed);
            self.populated = populated;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Adding the two's complement takes away.
        self.progress.calls.add(1u32.wrapping_neg(), Relaxed);
        self.progress
            .populated
            .fetch_add(self.populated.wrapping_neg(), Release);
        self.progress
            .wanted
            .add(self.wanted.wrapping_neg(), Relaxed);
    }
}

#[kunit_tests(mlock_rs_progress)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up_and_leave_nothing() {
        let progress = Progress::new();
        let mut one = progress.begin(100);
        let mut two = progress.begin(50);
        one.reached(30);
        two.reached(50);
        one.reached(40);
        assert_eq!(progress.now(), (2, 150, 90));

        drop(one);
        assert_eq!(progress.now(), (1, 50, 50));
        drop(two);
        assert_eq!(progress.now(), (0, 0, 0));
    }

    #[test]
    fn a_call_does_not_go_back_and_not_beyond_its_end() {
        let progress = Progress::new();
        let mut call = progress.begin(100);
        call.reached(60);
        call.reached(40);
        assert_eq!(progress.now(), (1, 100, 60));
        call.reached(1000);
        assert_eq!(progress.now(), (1, 100, 100));
    }
}
