// SPDX-License-Identifier: GPL-2.0

//! Locks three buffers at one instant; and shows that a list with a mistake changes nothing.
//!
//! `cargo run --example lock_ranges` in user/

use mlock_rs::{Device, Error, Range, page_size};
use std::process::ExitCode;

fn show(device: &Device, ranges: &[Range]) -> Result<(), Error> {
    for (number, &range) in ranges.iter().enumerate() {
        let query = device.query(range)?;
        let how = match query.locked {
            0 => "not locked",
            _ if query.locked_resident => "locked and in memory",
            _ => "locked in part",
        };
        println!("buffer {}: {how}", number + 1);
    }
    Ok(())
}

fn sample() -> Result<(), Error> {
    let device = Device::open()?;
    let buffers = [64, 256, 128].map(|kib| vec![0u8; kib << 10]);
    let ranges = buffers.each_ref().map(|buffer| Range::of(&buffer[..]));

    // Nothing is ever mapped at address 0.
    let nothing = Range::new(0, page_size());
    match device.lock().ranges(ranges).range(nothing).run() {
        Ok(_) => println!("a hole was locked"),
        Err(error) => println!("with a hole: {error}"),
    }
    show(&device, &ranges)?;

    device.lock().ranges(ranges).run()?;
    println!("without:");
    show(&device, &ranges)?;

    device.unlock().ranges(ranges).run()?;
    println!("unlocked:");
    show(&device, &ranges)
}

fn main() -> ExitCode {
    let Err(error) = sample() else {
        return ExitCode::SUCCESS;
    };
    // With the `#` it also says what to do about it.
    eprintln!("lock_ranges: {error:#}");
    ExitCode::FAILURE
}
