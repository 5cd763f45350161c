// SPDX-License-Identifier: GPL-2.0

//! The command line as it is used, against the module. What is locked, the kernel says.

use assert_cmd::{Command, cargo::cargo_bin};
use mlock_rs::{Device, uapi};
use predicates::{prelude::*, str::contains};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

fn mlockctl(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("mlockctl").unwrap();
    command.args(args).timeout(Duration::from_secs(60));
    command
}

fn file(home: &Path, name: &str, len: usize) -> PathBuf {
    let path = home.join(name);
    fs::write(&path, vec![1u8; len]).unwrap();
    path
}

fn vmlck(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Until `done`, for at most 30 seconds.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `mlockctl lock` that has said that it is ready.
struct Locker {
    child: Child,
    said: Vec<String>,
}

impl Locker {
    fn start(args: &[&str]) -> Self {
        let mut child = std::process::Command::new(cargo_bin("mlockctl"))
            .arg("lock")
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().unwrap().contains("unlocks") {
                break;
            }
        }
        assert!(
            said.last().is_some_and(|line| line.contains("unlocks")),
            "{said:?}"
        );
        Self { child, said }
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}");
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn files_are_locked_until_a_signal() {
    let home = tempfile::tempdir().unwrap();
    file(home.path(), "a", 20 * MIB + 1);
    file(home.path(), "b", 100);
    file(home.path(), "empty", 0);
    for signal in [Signal::INT, Signal::TERM] {
        let locker = Locker::start(&[home.path().to_str().unwrap()]);
        assert_eq!(vmlck(locker.child.id()), 20 * MIB + 2 * 4096);
        let [skipped, locked] = &locker.said[..] else {
            panic!("{:?}", locker.said);
        };
        assert!(skipped.ends_with("/empty: empty"), "{skipped}");
        assert!(
            locked.contains("locked 20.01 MiB in 2 files, 1 skipped"),
            "{locked}"
        );
        locker.end(signal);
    }
}

/// What `mlockctl lock` writes to a terminal, if it is kept from going on for `pause`.
fn on_a_terminal(path: &Path, pause: Duration) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let slave = fs::File::options()
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let size = Winsize {
        ws_row: 25,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).unwrap();
    let mut child = std::process::Command::new(cargo_bin("mlockctl"))
        .args([Path::new("lock"), path])
        .stderr(slave)
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    wait_for("the first piece", || vmlck(child.id()) > 0);
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(pause);
    kill_process(pid, Signal::CONT).unwrap();

    let mut said = Vec::new();
    let mut terminal = fs::File::from(terminal);
    let mut bytes = [0; 1000];
    while !String::from_utf8_lossy(&said).contains("unlocks") {
        let len = terminal.read(&mut bytes).unwrap();
        said.extend_from_slice(&bytes[..len]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    String::from_utf8(said).unwrap()
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_bar_shows_what_takes_longer_than_two_seconds() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 400 * MIB);
    let bar = r"█+░* [0-9.]+ MiB of 400.00 MiB, [0-9.]+ [KMG]iB/s, [0-9]+s left";
    let bar = predicates::str::is_match(bar).unwrap();
    // It may be through before it can be stopped; not each time.
    let mut said = Vec::new();
    while said.len() < 5 && !said.last().is_some_and(|said: &String| bar.eval(said)) {
        said.push(on_a_terminal(&path, Duration::from_millis(2100)));
    }
    assert!(bar.eval(said.last().unwrap()), "{said:?}");
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn no_bar_shows_for_what_is_done_at_once() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 40 * MIB);
    let said = on_a_terminal(&path, Duration::ZERO);
    assert!(said.starts_with("mlockctl: locked 40.00 MiB"), "{said:?}");
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn on_fault_locks_what_is_used() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 4 * MIB);
    let locker = Locker::start(&["--on-fault", path.to_str().unwrap()]);
    let pid = locker.child.id();
    assert_eq!(vmlck(pid), 4 * MIB);
    let output = mlockctl(&["status", "--locked", "--json", &pid.to_string()])
        .output()
        .unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["locked"], true);
    assert_eq!(rows[0]["size"], 4 * MIB);
    assert_eq!(rows[0]["resident"], 0);
    locker.end(Signal::TERM);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn as_many_threads_lock_as_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 64 * MIB);
    let name = path.to_str().unwrap();
    let abi = Device::open().unwrap().abi().unwrap();
    let has_workers = abi.has(uapi::MLOCK_RS_FEATURE_WORKERS);

    let two = Locker::start(&["--workers", "2", name]);
    assert_eq!(vmlck(two.child.id()), 64 * MIB);
    let said = two.said.concat();
    assert_eq!(said.contains(" s, by 2 threads; "), has_workers, "{said}");
    assert_eq!(said.contains("has no workers"), !has_workers, "{said}");
    let one = Locker::start(&["--workers", "1", name]);
    assert_eq!(one.said.len(), 1);
    assert!(!one.said[0].contains("threads"), "{:?}", one.said);

    mlockctl(&["lock", "--workers", "65", name])
        .assert()
        .code(2)
        .stderr(contains("65 is not in 1..=64"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn yielding_locks_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 64 * MIB);
    let locker = Locker::start(&["--yield", path.to_str().unwrap()]);
    assert_eq!(vmlck(locker.child.id()), 64 * MIB);
    locker.end(Signal::TERM);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn large_files_are_skipped_if_asked_for() {
    let home = tempfile::tempdir().unwrap();
    file(home.path(), "large", MIB + 1);
    file(home.path(), "small", MIB);
    let locker = Locker::start(&["--max", "1M", home.path().to_str().unwrap()]);
    assert_eq!(vmlck(locker.child.id()), MIB);
    assert!(
        locker.said[0].ends_with("/large: 1.00 MiB, more than 1.00 MiB"),
        "{:?}",
        locker.said
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn with_nothing_to_lock_it_fails() {
    mlockctl(&["lock", "/none", "/dev/null"])
        .assert()
        .code(1)
        .stderr(contains("skipped /none: no such file"))
        .stderr(contains(
            "skipped /dev/null: a character device, not a file",
        ))
        .stderr(contains("nothing to lock"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_limit_in_the_way_is_named_with_its_remedies() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = file(home.path(), "a", 3 * MIB);
    let program = cargo_bin("mlockctl");
    let locked = format!(
        "ulimit -l 2048; exec {} lock {}",
        program.display(),
        path.display()
    );
    // Another user has no CAP_IPC_LOCK.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &locked]).uid(65534).gid(65534);
    Command::from_std(command)
        .timeout(Duration::from_secs(60))
        .assert()
        .code(1)
        .stderr(contains(
            "cannot lock 3.00 MiB: the limit for locked memory",
        ))
        .stderr(contains(
            "(RLIMIT_MEMLOCK) is 2.00 MiB, 3.00 MiB are needed",
        ))
        .stderr(contains("sudo prlimit --memlock=3145728: --pid $$"))
        .stderr(contains(format!(
            "sudo setcap cap_ipc_lock=ep {}",
            program.display()
        )))
        .stderr(contains("LimitMEMLOCK=3072K"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn without_the_module_it_says_how_to_load_it() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 100);
    fs::rename("/dev/mlock_rs", "/dev/mlock_rs.away").unwrap();
    let lock = mlockctl(&["lock", path.to_str().unwrap()]).output();
    let doctor = mlockctl(&["doctor"]).output();
    fs::rename("/dev/mlock_rs.away", "/dev/mlock_rs").unwrap();

    let lock = lock.unwrap();
    let said = String::from_utf8(lock.stderr).unwrap();
    assert_eq!(lock.status.code(), Some(1));
    assert!(
        said.contains("there is no /dev/mlock_rs: the module is not loaded"),
        "{said}"
    );
    assert!(said.contains("sudo modprobe mlock_rs"), "{said}");
    let doctor = doctor.unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    assert!(said.contains("BAD   device"), "{said}");
    assert!(said.contains("mlock_rs cannot be used here"), "{said}");
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_daemon_is_ready_when_the_command_returns() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 5 * MIB);
    let pid_file = home.path().join("pid");
    let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let args = [
        "lock",
        "--daemon",
        "--pid-file",
        pid_file.to_str().unwrap(),
        path.to_str().unwrap(),
    ];

    mlockctl(&args)
        .env("NOTIFY_SOCKET", home.path().join("notify"))
        .assert()
        .code(0)
        .stdout("")
        .stderr(contains("locked 5.00 MiB"));
    let pid = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse::<u32>()
        .unwrap();
    assert_eq!(vmlck(pid), 5 * MIB);
    let mut message = [0; 100];
    let len = socket.recv(&mut message).unwrap();
    let message = String::from_utf8_lossy(&message[..len]).into_owned();
    assert!(message.contains("READY=1"), "{message}");
    assert!(message.contains(&format!("MAINPID={pid}")), "{message}");
    // It has left the terminal and standard error to others.
    let error = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    assert_eq!(error, Path::new("/dev/null"));

    mlockctl(&args)
        .assert()
        .code(1)
        .stderr(contains(format!("process {pid} is running already")));

    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::TERM).unwrap();
    wait_for("the pid file to go", || !pid_file.exists());
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_daemon_that_cannot_lock_fails_in_the_foreground() {
    mlockctl(&["lock", "--daemon", "/none"])
        .assert()
        .code(1)
        .stderr(contains("nothing to lock"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn status_shows_a_file_and_who_locks_it() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a", 2 * MIB);
    let name = path.to_str().unwrap();
    let locker = Locker::start(&[name]);
    let pid = locker.child.id();

    let output = mlockctl(&["status", "--json", name]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["size"], 2 * MIB);
    assert_eq!(report["resident"], 2 * MIB);
    let users = report["mapped_by"].as_array().unwrap();
    assert_eq!(users.len(), 1, "{report}");
    assert_eq!(users[0]["pid"], pid);
    assert_eq!(users[0]["locked"], 2 * MIB);

    let row = format!(r"(?m)^ *{pid} +mlockctl +2.00 MiB +2.00 MiB +████████████ +2.00 MiB$");
    mlockctl(&["status", name])
        .assert()
        .code(0)
        .stdout(predicates::str::is_match(row).unwrap());
    let row = format!(r"(?m)^ *{pid} +mlockctl +2.00 MiB");
    mlockctl(&["status"])
        .assert()
        .code(0)
        .stdout(predicates::str::is_match(row).unwrap());
    mlockctl(&["status", &pid.to_string()])
        .assert()
        .code(0)
        .stdout(predicates::str::is_match(format!("████████████ +locked +r--s +{name}")).unwrap())
        .stdout(contains("[stack]"));
    mlockctl(&["status", "--locked", &pid.to_string()])
        .assert()
        .stdout(contains("[stack]").not());
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn status_of_what_is_not_there_fails() {
    mlockctl(&["status", "/none"])
        .assert()
        .code(1)
        .stderr(contains("/none: No such file"));
    mlockctl(&["status", "4194305"])
        .assert()
        .code(1)
        .stderr(contains("there is no process 4194305"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn the_doctor_finds_it_usable() {
    mlockctl(&["doctor"])
        .assert()
        .code(0)
        .stdout(contains("good  kernel           7."))
        .stdout(contains("K: has livepatch relocations"))
        .stdout(contains("CONFIG_RUST"))
        .stdout(contains("mlock_rs is loaded"))
        .stdout(contains(format!(
            "mode 0666, ABI {}",
            uapi::MLOCK_RS_ABI_VERSION
        )))
        .stdout(contains("yield, interruptible, progress"))
        .stdout(contains("locked a page, and it is locked"))
        .stdout(contains("mlock_rs can be used here."));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn the_doctor_sees_a_device_that_is_not_for_everybody() {
    let mode =
        |mode| fs::set_permissions("/dev/mlock_rs", fs::Permissions::from_mode(mode)).unwrap();
    mode(0o600);
    let root = mlockctl(&["doctor"]).output();
    let mut command = std::process::Command::new(cargo_bin("mlockctl"));
    let other = command.arg("doctor").uid(65534).gid(65534).output();
    mode(0o666);

    let root = String::from_utf8(root.unwrap().stdout).unwrap();
    assert!(root.contains("note  device"), "{root}");
    let other = other.unwrap();
    assert_eq!(other.status.code(), Some(1));
    let said = String::from_utf8(other.stdout).unwrap();
    assert!(
        said.contains("BAD   device           this user may not open /dev/mlock_rs"),
        "{said}"
    );
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn the_demo_sees_mlock_lose_a_race() {
    let output = mlockctl(&["demo", "--calls", "60", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["calls"], 60);
    assert_eq!(report["mlock_rs"], 0);
    assert!(report["mlock"].as_u64() > Some(0), "{report}");
    mlockctl(&["demo", "--calls", "3"])
        .assert()
        .code(0)
        .stdout(contains("mlock_rs  0 of 3 calls"));
}

/// What a program that runs with the library says about it at exit.
fn stats(program: &[&str], options: &[&str]) -> String {
    let mut args = vec!["run", "--stats"];
    args.extend(options);
    args.push("--");
    args.extend(program);
    let output = mlockctl(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn locker() -> PathBuf {
    cargo_bin("mlockctl")
        .with_file_name("examples")
        .join("locker")
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_program_runs_with_the_library() {
    let locker = locker();
    let said = stats(&[locker.to_str().unwrap(), "mlock", "munlock"], &[]);
    assert!(
        said.ends_with("through the device 1 locked, 1 unlocked, 0 failed; by system call 0\n"),
        "{said}"
    );
    let said = stats(&[locker.to_str().unwrap(), "mlock"], &["--strict"]);
    assert!(said.contains("through the device 1 locked"), "{said}");
    mlockctl(&["run", "--", "/none"])
        .assert()
        .code(1)
        .stderr(contains("/none: No such file"));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_static_program_is_not_passed_off_as_covered() {
    // The guest's busybox is static.
    mlockctl(&["run", "--", "true"])
        .assert()
        .code(0)
        .stderr(contains("linked statically"));
    mlockctl(&["run", "--strict", "--", "true"])
        .assert()
        .code(1)
        .stderr(contains("linked statically"));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        mlockctl(&["completions", shell])
            .assert()
            .code(0)
            .stdout(contains("on-fault").and(contains("doctor")));
    }
    let home = tempfile::tempdir().unwrap();
    mlockctl(&["man", home.path().to_str().unwrap()])
        .assert()
        .code(0);
    let mut page = String::new();
    let path = home.path().join("mlockctl-lock.1");
    fs::File::open(path)
        .unwrap()
        .read_to_string(&mut page)
        .unwrap();
    assert!(page.contains("pid\\-file"), "{page}");
    assert!(!page.contains("in\\-background"), "{page}");
}
