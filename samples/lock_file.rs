// SPDX-License-Identifier: GPL-2.0

//! Locks a file into memory, piece by piece, and says how far it is. The file stays there until the
//! program ends.
//!
//! `cargo run --example lock_file FILE` in user/

use mlock_rs::{Device, FileMapping, Range};
use std::{env, error::Error, process::ExitCode, time::Instant};

/// One call locks so much: other threads' mmap waits no longer than for that.
const PIECE: u64 = 4 << 20;

fn sample() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: lock_file FILE")?;
    let device = Device::open()?;
    let start = Instant::now();
    let mapping = FileMapping::open(path)?;
    let file = mapping.range();

    let mut done = 0;
    while done < file.len() {
        let len = PIECE.min(file.len() - done);
        let piece = Range::new((file.addr() + done) as usize, len as usize);
        device.lock().range(piece).run()?;
        done += len;
        println!(
            "{:3} % {} of {} MiB, {:.0} MiB/s",
            100 * done / file.len(),
            done >> 20,
            file.len() >> 20,
            done as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = sample() else {
        return ExitCode::SUCCESS;
    };
    // With the `#` it also says what to do about it.
    eprintln!("lock_file: {error:#}");
    ExitCode::FAILURE
}
