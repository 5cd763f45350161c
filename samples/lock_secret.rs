// SPDX-License-Identifier: GPL-2.0

//! Keeps a key out of swap and core dumps: `LockedBox` has a page of its own, which is locked
//! before anything is written to it and zeroed before it goes.
//!
//! `cargo run --example lock_secret` in user/

use mlock_rs::{Device, LockedBox};
use std::{error::Error, fs::File, io::Read, process::ExitCode};

const KEY_LEN: usize = 32;

fn sample() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;

    // Filled in place: a key that was somewhere else before would have left a copy there.
    let mut read = Ok(());
    let key = LockedBox::<[u8; KEY_LEN]>::with(&device, |key| {
        read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(key));
    })?;
    read?;

    let used = key.iter().any(|&byte| byte != 0);
    let range = key.range();
    println!(
        "a key of {KEY_LEN} bytes, {}, {}",
        if used { "in use" } else { "not there" },
        if device.query(range)?.locked_resident {
            "locked and in memory"
        } else {
            "not locked"
        },
    );
    // What is printed by accident is not the key.
    println!("as {key:?}");

    drop(key);
    let gone = device.query(range)?.mapped == 0;
    println!(
        "{}",
        if gone {
            "zeroed and gone"
        } else {
            "still there"
        }
    );
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = sample() else {
        return ExitCode::SUCCESS;
    };
    // With the `#` it also says what to do about it.
    eprintln!("lock_secret: {error:#}");
    ExitCode::FAILURE
}
