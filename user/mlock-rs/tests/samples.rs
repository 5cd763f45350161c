// SPDX-License-Identifier: GPL-2.0

//! The Rust programs in samples/ do what they say: each is run as a user would run it.

use mlock_rs::Limits;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

/// One of the samples, which cargo builds as examples.
fn sample(name: &str) -> Command {
    let deps = std::env::current_exe().unwrap();
    let debug = deps.parent().and_then(Path::parent).unwrap();
    Command::new(debug.join("examples").join(name))
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs the module"]
fn lock_buffer() {
    let printed = text(sample("lock_buffer").arg("2").output().unwrap());
    let lines: Vec<_> = printed.lines().collect();
    // The memory is the allocator's: a page more than 2 MiB, if it does not begin with a page.
    let both = |locked: &str, resident: &str| {
        format!("of 2101248 bytes {locked} are locked and {resident} in memory")
    };
    assert_eq!(lines, [both("2101248", "2101248"), both("0", "2101248")]);
}

#[test]
#[ignore = "needs the module"]
fn lock_buffer_that_is_too_large() {
    let mut command = sample("lock_buffer");
    // Nobody, who has no CAP_IPC_LOCK.
    command.uid(65534).gid(65534);
    let limit = Rlimit {
        current: Some(64 << 10),
        maximum: Some(64 << 10),
    };
    // SAFETY: only a system call.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Memlock, limit)?)) };
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("lock_buffer: cannot lock 1.00 MiB: the limit"),
        "{said}"
    );
    assert!(said.contains("prlimit --memlock="), "{said}");
}

#[test]
#[ignore = "needs the module"]
fn lock_secret() {
    assert_eq!(
        text(sample("lock_secret").output().unwrap()),
        "a key of 32 bytes, in use, locked and in memory\nas LockedBox(..)\nzeroed and gone\n"
    );
}

#[test]
#[ignore = "needs the module"]
fn lock_ranges() {
    let three = |how: &str| [1, 2, 3].map(|n| format!("buffer {n}: {how}\n")).concat();
    let printed = text(sample("lock_ranges").output().unwrap());
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(first.starts_with("with a hole: cannot lock "), "{first}");
    assert!(first.ends_with("; nothing was changed"), "{first}");
    assert_eq!(
        rest,
        three("not locked")
            + "without:\n"
            + &three("locked and in memory")
            + "unlocked:\n"
            + &three("not locked")
    );
}

#[test]
#[ignore = "needs the module"]
fn lock_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![1; 9 << 20]).unwrap();
    let printed = text(sample("lock_file").arg(file.path()).output().unwrap());
    let parts: Vec<_> = printed
        .lines()
        .map(|line| line.split_once(", ").unwrap().0)
        .collect();
    assert_eq!(
        parts,
        [" 44 % 4 of 9 MiB", " 88 % 8 of 9 MiB", "100 % 9 of 9 MiB"]
    );
    assert_eq!(Limits::now().locked, 0);
}

#[test]
#[ignore = "needs the module"]
fn fault_latency() {
    let printed = text(sample("fault_latency").output().unwrap());
    let faults: Vec<u32> = printed
        .lines()
        .map(|line| {
            let (before, _) = line
                .split_once(" page faults in 1000 rounds, worst ")
                .unwrap();
            before.split_whitespace().last().unwrap().parse().unwrap()
        })
        .collect();
    // How long one takes is for people to see, not for a test: the machine may be busy.
    assert_eq!(faults.len(), 2, "{printed}");
    // The allocator has touched the first page, and where huge pages come without being asked for,
    // one lies within the 1000 pages.
    assert!(faults[0] >= 1000 - 512 - 1, "{printed}");
    assert_eq!(faults[1], 0, "{printed}");
}
