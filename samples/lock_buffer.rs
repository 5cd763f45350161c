// SPDX-License-Identifier: GPL-2.0

//! Locks a buffer with the crate mlock-rs, asks whether it is locked, and unlocks it by dropping
//! the lock.
//!
//! `cargo run --example lock_buffer [MiB]` in user/

use mlock_rs::{Device, Error, LockedRegion, Range};
use std::process::ExitCode;

fn show(device: &Device, range: Range) -> Result<(), Error> {
    let query = device.query(range)?;
    println!(
        "of {} bytes {} are locked and {} in memory",
        query.mapped, query.locked, query.resident
    );
    Ok(())
}

fn lock(mib: usize) -> Result<(), Error> {
    let device = Device::open()?;
    let mut buffer = vec![0u8; mib << 20];
    let range = Range::of(&buffer[..]);

    {
        let mut locked = LockedRegion::new(&device, buffer.as_mut_slice())?;
        locked[0] = 1;
        show(&device, range)?;
    } // Unlocked here, whichever way the block is left.
    show(&device, range)
}

fn main() -> ExitCode {
    let mib = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match lock(mib.unwrap_or(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With the `#` it also says what to do about it.
            eprintln!("lock_buffer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
