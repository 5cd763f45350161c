// SPDX-License-Identifier: GPL-2.0

//! `mlockctl demo`: the race that mlock(2) loses. samples/demo.c has more of it.

use crate::{Failure, arena::Arena, cli::Demo};
use mlock_rs::{Device, Limits};
use serde::Serialize;
use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const PAGES: usize = 1024;
/// The page that is replaced, and one that is populated after it.
const REPLACED: usize = PAGES / 2;
const LAST: usize = PAGES - 1;

/// How often a call returned success although a page had been replaced during the call by one that
/// is not locked.
#[derive(Debug, Default, Serialize)]
struct Report {
    calls: u32,
    mlock: u32,
    mlock_rs: u32,
}

pub(crate) fn run(args: &Demo) -> Result<ExitCode, Failure> {
    let device = Device::open()?;
    Limits::now().check(Arena::new(PAGES)?.range().len())?;
    let mut report = Report {
        calls: args.calls,
        ..Default::default()
    };
    let marking = marking(&device)?;
    for call in 0..args.calls {
        // While the kernel marks the mappings, and shortly after.
        let delay = marking * (call % 16) / 12;
        let lock = |arena: &Arena| Ok(arena.mlock()?);
        report.mlock += u32::from(wrong_success(&device, delay, lock)?);
        let lock = |arena: &Arena| Ok(device.lock().range(arena.range()).run().map(drop)?);
        report.mlock_rs += u32::from(wrong_success(&device, delay, lock)?);
    }
    report.print(args.json)?;
    Ok(match report.mlock_rs {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

impl Report {
    fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        println!("Another thread replaces a page meanwhile. Success was not true for");
        for (name, wrong) in [("mlock(2)", self.mlock), ("mlock_rs", self.mlock_rs)] {
            println!("{name}  {wrong} of {} calls", self.calls);
        }
        Ok(())
    }
}

/// How long it takes to mark the mappings, which is all that there is to do to lock them on fault.
fn marking(device: &Device) -> Result<Duration, Failure> {
    let mut least = Duration::MAX;
    for _ in 0..10 {
        let arena = Arena::new(PAGES)?;
        let start = Instant::now();
        device.lock().range(arena.range()).on_fault().run()?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

/// One call, which another thread gets in the way of after `delay`.
fn wrong_success(
    device: &Device,
    delay: Duration,
    lock: impl FnOnce(&Arena) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let arena = Arena::new(PAGES)?;
    let (ready, begins) = (AtomicBool::new(false), AtomicBool::new(false));
    let during_the_call = thread::scope(|scope| {
        let other = scope.spawn(|| -> Result<bool, mlock_rs::Error> {
            ready.store(true, Ordering::Release);
            while !begins.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            while start.elapsed() < delay {}
            if arena.replace(REPLACED).is_err() {
                return Ok(false);
            }
            // What comes last is not there yet: so the call is not over.
            Ok(device.query(arena.page(LAST))?.resident == 0)
        });
        // It may take longer to start than the mappings to be marked.
        while !ready.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        begins.store(true, Ordering::Release);
        let done = lock(&arena);
        let during = other.join().expect("it does not panic")?;
        done.map(|()| during)
    })?;
    Ok(during_the_call && device.query(arena.page(REPLACED))?.locked == 0)
}
