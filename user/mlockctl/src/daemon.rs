// SPDX-License-Identifier: GPL-2.0

//! Going into the background, and telling who waits for it.

use crate::Failure;
use rustix::fs::{FlockOperation, flock};
use sd_notify::NotifyState;
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

const READY: &str = "ready\n";

/// Run the same command again as another process, and wait until that is ready. Locks do not
/// survive fork(2), so it is the other one that locks.
pub(crate) fn start() -> Result<ExitCode, Failure> {
    let mut args = std::env::args_os().skip(1);
    let mut child = Command::new(std::env::current_exe()?)
        .args(args.next())
        .arg("--in-background")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().map_or(1, |code| code as u8)))
}

/// Everything is locked: tell the service manager and, from the background, who started it.
pub(crate) fn ready(in_background: bool) -> Result<(), Failure> {
    let pid = NotifyState::MainPid(std::process::id());
    sd_notify::notify(true, &[NotifyState::Ready, pid])?;
    if in_background {
        // Only now, so that until here Ctrl-C ends both.
        rustix::process::setsid()?;
        std::io::stdout().write_all(READY.as_bytes())?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stderr(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
    }
    Ok(())
}

/// A file with this process's id, which is gone when the process is.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    // Locked as long as it is open, so that a file left behind by a crash is known as such.
    _file: File,
}

impl PidFile {
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| failed(&error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = fs::read_to_string(path).unwrap_or_default();
            return Err(failed(&format!("process {} is running already", pid.trim())).into());
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self {
            path: path.to_path_buf(),
            _file: file,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
