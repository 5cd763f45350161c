// SPDX-License-Identifier: GPL-2.0

//! A program with the preload library and without it. Whether the device was used, the module's
//! own counters tell.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const DEVICE: &str = "/dev/mlock_rs";

/// Where cargo puts what it builds.
fn built(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let debug = deps.parent().and_then(Path::parent).unwrap();
    debug.join(name)
}

fn locker(calls: &[&str]) -> Command {
    let mut command = Command::new(built("examples/locker"));
    command.args(calls);
    command
}

fn preloaded(calls: &[&str]) -> Command {
    let mut command = locker(calls);
    command.env("LD_PRELOAD", built("libmlock_rs_preload.so"));
    command
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A counter of the module, over all of its callers.
fn total(name: &str) -> u64 {
    let totals = fs::read_to_string("/sys/kernel/debug/mlock_rs/totals").unwrap();
    let line = totals.lines().find(|line| line.starts_with(name));
    line.unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap()
}

/// Runs the calls with the library and without; `through` of them must be LOCKs that succeed.
fn the_same(calls: &[&str], through: u64) {
    let expected = text(locker(calls).output().unwrap());
    let before = total("lock-calls");
    let found = text(preloaded(calls).output().unwrap());
    assert_eq!(found, expected);
    assert_eq!(found.lines().count(), calls.len());
    assert_eq!(
        total("lock-calls") - before,
        through,
        "calls through the device"
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn locking_and_unlocking_is_the_same() {
    the_same(&["mlock", "munlock-middle", "munlock"], 1);
    the_same(&["mlock-one-byte", "mlock", "mlock", "munlock"], 3);
    the_same(&["mlock-nothing", "mlock2", "munlock", "munlock"], 2);
    the_same(&["mlock2-onfault", "mlock", "munlock"], 2);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn failing_is_the_same() {
    the_same(&["mlock2-wrong-flags"], 0);
    the_same(&["unmap-first", "mlock"], 1);
    the_same(&["protect", "mlock", "munlock"], 1);
    the_same(
        &[
            "limit",
            "mlock",
            "mlock-one-byte",
            "no-limit-at-all",
            "mlock",
        ],
        3,
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn what_is_left_alone_is_the_same() {
    the_same(&["mlockall", "munlockall", "close-all", "mlock"], 1);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn calls_by_number_are_the_same() {
    the_same(&["raw-mlock", "raw-munlock", "mlock", "raw-munlock"], 2);
    the_same(&["raw-mlock2-onfault", "raw-mlock", "munlock"], 2);
    the_same(&["unmap-first", "raw-mlock"], 1);
    the_same(&["raw-mlock2-wrong-flags"], 0);
    let others = ["raw-close", "raw-six-arguments"];
    the_same(&others, 0);
    let closed = libc::EBADF;
    let expected = format!("raw-close: -1 {closed} +0\nraw-six-arguments: 2 0 +0\n");
    assert_eq!(text(preloaded(&others).output().unwrap()), expected);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn it_counts() {
    let calls = [
        "mlock",
        "mlock2-wrong-flags",
        "munlock",
        "unmap-first",
        "mlock",
    ];
    let output = preloaded(&calls)
        .env("MLOCK_RS_STATS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (who, counts) = said.trim_end().split_once("]: ").unwrap();
    assert!(who.starts_with("mlock_rs: locker["), "{said}");
    assert_eq!(
        counts,
        "through the device 1 locked, 1 unlocked, 1 failed; by system call 1"
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_child_counts_anew_and_a_file_has_both() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let calls = ["mlock", "munlock", "fork"];
    let output = preloaded(&calls)
        .env("MLOCK_RS_STATS", file.path())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty());
    let said = fs::read_to_string(file.path()).unwrap();
    let counts: Vec<_> = said
        .lines()
        .map(|line| line.split_once("]: ").unwrap().1)
        .collect();
    assert_eq!(
        counts,
        [
            "through the device 1 locked, 0 unlocked, 0 failed; by system call 0",
            "through the device 1 locked, 1 unlocked, 0 failed; by system call 0",
        ]
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn without_the_device_it_is_mlock_or_fails() {
    let calls = ["mlock", "munlock"];
    let away = format!("{DEVICE}.away");
    fs::rename(DEVICE, &away).unwrap();
    let lenient = preloaded(&calls).env("MLOCK_RS_STATS", "1").output();
    let strict = preloaded(&calls).env("MLOCK_RS_STRICT", "1").output();
    fs::rename(&away, DEVICE).unwrap();

    let lenient = lenient.unwrap();
    assert!(
        String::from_utf8_lossy(&lenient.stderr).contains("by system call 2"),
        "{lenient:?}"
    );
    assert_eq!(text(lenient), "mlock: 0 0 +32\nmunlock: 0 0 -32\n");
    let nosys = libc::ENOSYS;
    let refused = format!("mlock: -1 {nosys} +0\nmunlock: -1 {nosys} +0\n");
    assert_eq!(text(strict.unwrap()), refused);
}
