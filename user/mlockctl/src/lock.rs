// SPDX-License-Identifier: GPL-2.0

//! `mlockctl lock`: map files, lock them, stay.

use crate::{
    Failure,
    cli::Lock,
    daemon::{self, PidFile},
    find::{self, Found, Why},
};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlock_rs::{Device, Error, FileMapping, Limits, Range, Rule, page_size};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How much is locked by one call: often enough for a bar that moves, and for Ctrl-C.
const PIECE: u64 = 8 << 20;

pub(crate) fn run(args: &Lock) -> Result<ExitCode, Failure> {
    if args.daemon && !args.in_background {
        return daemon::start();
    }
    let pid_file = args.pid_file.as_deref().map(PidFile::new).transpose()?;
    let mut session = Session::new(Device::open()?, args);
    let files = session.find(args);
    session.lock_all(&files)?;
    session.report();
    if session.locked.is_empty() {
        return Ok(ExitCode::FAILURE);
    }

    // Until here a signal has its default action, which unlocks everything too.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    daemon::ready(args.in_background)?;
    signals.forever().next();
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// One run: what was locked and what was not.
struct Session {
    device: Device,
    on_fault: bool,
    quiet: bool,
    start: Instant,
    locked: Vec<FileMapping>,
    bytes: u64,
    skipped: usize,
}

impl Session {
    fn new(device: Device, args: &Lock) -> Self {
        Self {
            device,
            on_fault: args.on_fault,
            quiet: args.quiet,
            start: Instant::now(),
            locked: Vec::new(),
            bytes: 0,
            skipped: 0,
        }
    }

    fn find(&mut self, args: &Lock) -> Vec<Found> {
        find::files(&args.paths, args.max, |path, why| self.skip(path, &why))
    }

    fn skip(&mut self, path: &Path, why: &Why) {
        self.skipped += 1;
        if why.is_failure() || !self.quiet {
            eprintln!("mlockctl: skipped {}: {why}", path.display());
        }
    }

    fn lock_all(&mut self, files: &[Found]) -> Result<(), Error> {
        let pages = |file: &Found| file.len.next_multiple_of(page_size() as u64);
        let total = files.iter().map(pages).sum();
        // Before anything is read, rather than at the file that is one too many.
        Limits::now().check(total)?;

        let progress = Progress::new(total, self.start);
        for file in files {
            match self.lock_file(&file.path, &progress) {
                Ok(mapping) => {
                    self.bytes += mapping.range().page_bytes();
                    self.locked.push(mapping);
                }
                Err(error) if is_about_the_file(&error) => {
                    let why = Why::Failed(error.to_string());
                    progress.suspend(|| self.skip(&file.path, &why));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock_file(&self, path: &Path, progress: &Progress) -> Result<FileMapping, Error> {
        let mapping = FileMapping::open(path)?;
        let range = mapping.range();
        let mut done = 0;
        while done < range.len() {
            let len = PIECE.min(range.len() - done);
            let piece = Range::new((range.addr() + done) as usize, len as usize);
            let lock = self.device.lock().range(piece);
            match self.on_fault {
                true => lock.on_fault().run()?,
                false => lock.run()?,
            };
            done += len;
            progress.add(piece.page_bytes());
        }
        Ok(mapping)
    }

    fn report(&self) {
        if self.locked.is_empty() {
            eprintln!("mlockctl: nothing to lock");
            return;
        }
        let how = match self.on_fault {
            true => "on fault ",
            false => "",
        };
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        eprintln!(
            "mlockctl: locked {} {how}in {} file{}{skipped}, in {:.1} s; SIGINT or SIGTERM unlocks",
            BinaryBytes(self.bytes),
            self.locked.len(),
            if self.locked.len() == 1 { "" } else { "s" },
            self.start.elapsed().as_secs_f64(),
        );
    }
}

/// Whether other files may still be locked after this.
fn is_about_the_file(error: &Error) -> bool {
    matches!(
        error.rule(),
        Rule::CannotPopulate { .. } | Rule::PeerToPeer { .. } | Rule::Other(_)
    )
}

/// A bar on a terminal, for what takes longer than two seconds.
struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    fn new(total: u64, start: Instant) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, \
                        {binary_bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a template that is right"));
        Self { bar, start }
    }

    fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        if self.bar.is_hidden() && self.start.elapsed() > Duration::from_secs(2) {
            // Does nothing if that is not a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Write to standard error without a bar in between.
    fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
