// SPDX-License-Identifier: GPL-2.0

//! A real-time loop that writes to one page of a buffer in each round: its page faults and the
//! worst round, with a buffer that is not locked and with one that is.
//!
//! `cargo build --example fault_latency` in user/, and `chrt --fifo 50` to run it

use mlock_rs::{Device, LockedRegion, page_size};
use std::{
    error::Error,
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

const ROUNDS: usize = 1000;
const PERIOD: Duration = Duration::from_micros(100);

/// The page faults of this process so far: fields 10 and 12 of its stat, behind the name.
fn page_faults() -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no name")?;
    let field = |number: usize| fields.split(' ').nth(number - 3).ok_or("too short");
    Ok(field(10)?.parse::<u64>()? + field(12)?.parse::<u64>()?)
}

fn run(name: &str, buffer: &mut [u8]) -> Result<(), Box<dyn Error>> {
    let mut worst = Duration::ZERO;
    let mut next = Instant::now();
    page_faults()?; // The allocations of its first call are not of the loop.
    let before = page_faults()?;
    for page in buffer.chunks_exact_mut(page_size()) {
        let start = Instant::now();
        std::hint::black_box(page)[0] = 1;
        worst = worst.max(start.elapsed());
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let faults = page_faults()? - before;
    println!(
        "{name:10} {faults:4} page faults in {ROUNDS} rounds, worst access {} us",
        worst.as_micros()
    );
    Ok(())
}

fn sample() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let mut buffers = [
        vec![0u8; ROUNDS * page_size()],
        vec![0u8; ROUNDS * page_size()],
    ];
    let [ordinary, real_time] = &mut buffers;

    run("not locked", ordinary)?;

    // Before the loop begins, not in it: this is where the page faults are taken.
    let mut locked = LockedRegion::new(&device, real_time.as_mut_slice())?;
    run("locked", &mut locked)
}

fn main() -> ExitCode {
    let Err(error) = sample() else {
        return ExitCode::SUCCESS;
    };
    // With the `#` it also says what to do about it.
    eprintln!("fault_latency: {error:#}");
    ExitCode::FAILURE
}
