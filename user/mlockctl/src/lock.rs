// SPDX-License-Identifier: GPL-2.0

//! `mlockctl lock`: map files, lock them, stay.

use crate::{
    Failure,
    cli::Lock,
    daemon::{self, PidFile},
    find::{self, Found, Why},
};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlock_rs::{Device, Error, FileMapping, Limits, Locked, Range, Rule, page_size, uapi};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    cell::Cell,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// How much is locked by one call of a module that does not tell how far it is: often enough for a
/// bar that moves.
const SMALL_PIECE: u64 = 8 << 20;
/// And if it tells: enough for several threads to share.
const LARGE_PIECE: u64 = 1 << 30;
/// How often it is asked.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Lock) -> Result<ExitCode, Failure> {
    if args.daemon && !args.in_background {
        return daemon::start();
    }
    let pid_file = args.pid_file.as_deref().map(PidFile::new).transpose()?;
    let mut session = Session::new(Device::open()?, args);
    let files = session.find(args);
    session.lock_all(&files)?;
    // Until here a signal has its default action, which unlocks everything too. From what is said
    // next on, it ends with success.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    session.report();
    if session.locked.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    daemon::ready(args.in_background)?;
    signals.forever().next();
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// One run: what was locked and what was not.
struct Session {
    device: Device,
    on_fault: bool,
    workers: Option<u32>,
    yielding: bool,
    quiet: bool,
    start: Instant,
    locked: Vec<FileMapping>,
    bytes: u64,
    skipped: usize,
    /// The most that helped with one call.
    helpers: u32,
}

impl Session {
    fn new(device: Device, args: &Lock) -> Self {
        Self {
            device,
            on_fault: args.on_fault,
            workers: args.workers,
            yielding: args.yielding,
            quiet: args.quiet,
            start: Instant::now(),
            locked: Vec::new(),
            bytes: 0,
            skipped: 0,
            helpers: 0,
        }
    }

    fn has(&self, feature: u32) -> bool {
        self.device.abi().is_some_and(|abi| abi.has(feature))
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
        if self.workers.is_some_and(|workers| workers > 1)
            && !self.has(uapi::MLOCK_RS_FEATURE_WORKERS)
            && !self.quiet
        {
            eprintln!("mlockctl: this module, or this kernel, has no workers: one thread locks");
        }

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

    fn lock_file(&mut self, path: &Path, progress: &Progress) -> Result<FileMapping, Error> {
        let mapping = FileMapping::open(path)?;
        let range = mapping.range();
        let most = match self.has(uapi::MLOCK_RS_FEATURE_PROGRESS) {
            true => LARGE_PIECE,
            false => SMALL_PIECE,
        };
        let mut done = 0;
        while done < range.len() {
            let len = most.min(range.len() - done);
            let piece = Range::new((range.addr() + done) as usize, len as usize);
            let locked = match len > SMALL_PIECE {
                true => self.watched(piece, progress)?,
                false => self.lock_piece(piece)?,
            };
            self.helpers = self.helpers.max(locked.helpers.unwrap_or(0));
            done += len;
            progress.add(piece.page_bytes());
        }
        Ok(mapping)
    }

    fn lock_piece(&self, piece: Range) -> Result<Locked, Error> {
        let mut lock = self.device.lock().range(piece);
        if self.on_fault {
            lock = lock.on_fault();
        }
        if let Some(workers) = self.workers {
            lock = lock.workers(workers);
        }
        if self.yielding {
            lock = lock.yielding();
        }
        lock.run()
    }

    /// Lock in another thread, and show how far it is. This thread must not need the mmap lock
    /// meanwhile: what it draws with, it has used before.
    fn watched(&self, piece: Range, progress: &Progress) -> Result<Locked, Error> {
        progress.ahead(0);
        thread::scope(|scope| {
            let call = scope.spawn(|| self.lock_piece(piece));
            let start = Instant::now();
            while !call.is_finished() {
                // What is done at once is not to wait for a tick.
                thread::park_timeout(TICK.min(start.elapsed() + Duration::from_millis(1)));
                if let Ok(state) = self.device.progress() {
                    progress.ahead(state.populated);
                }
            }
            call.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
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
        let threads = match self.helpers {
            0 => String::new(),
            helpers => format!(", by {} threads", helpers + 1),
        };
        eprintln!(
            "mlockctl: locked {} {how}in {} file{}{skipped}, in {:.1} s{threads}; \
             SIGINT or SIGTERM unlocks",
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
        Rule::CannotPopulate { .. }
            | Rule::PeerToPeer { .. }
            | Rule::Changed { .. }
            | Rule::Other(_)
    )
}

/// A bar on a terminal, for what takes longer than two seconds.
struct Progress {
    bar: ProgressBar,
    start: Instant,
    /// Bytes of the calls that are over.
    done: Cell<u64>,
}

impl Progress {
    fn new(total: u64, start: Instant) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, \
                        {binary_bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a template that is right"));
        Self {
            bar,
            start,
            done: Cell::new(0),
        }
    }

    /// A call is over.
    fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        self.ahead(0);
    }

    /// A call that is not over has come so far.
    fn ahead(&self, bytes: u64) {
        self.bar.set_position(self.done.get() + bytes);
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
