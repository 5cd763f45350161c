// SPDX-License-Identifier: GPL-2.0

//! The arguments. Help, manual pages and completions are made of this.

use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Lock files and programs into memory with /dev/mlock_rs, and see what is locked
///
/// The module mlock_rs locks memory with one hold of the mmap lock: if it says that a range is
/// locked, all of it is locked and in memory. `mlockctl doctor` tells whether it can be used here.
#[derive(Debug, Parser)]
#[command(name = "mlockctl", version, arg_required_else_help = true)]
#[command(after_long_help = "See also mlock_rs(4), mlock(2), getrlimit(2).")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Lock(Lock),
    Status(Status),
    Doctor(Doctor),
    Demo(Demo),
    Run(Run),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// Where to write mlockctl.1, mlockctl-lock.1 and so on
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

/// Keep files in memory
///
/// Maps the files, and all regular files in the directories, locks them, and stays until SIGINT or
/// SIGTERM. Nothing is read from disk again as long as it stays. What cannot be locked is named and
/// left out; symbolic links in directories are not followed.
#[derive(Debug, Args)]
#[command(
    after_long_help = "As a service: Type=notify, ExecStart=mlockctl lock /srv/data, and \
    LimitMEMLOCK= as large as the files."
)]
pub(crate) struct Lock {
    /// Files and directories
    #[arg(required = true, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,

    /// Lock pages when somebody first uses them, instead of reading everything now
    #[arg(long)]
    pub(crate) on_fault: bool,

    /// Let so many threads lock, instead of as many as the module finds useful; 1 to 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: Option<u32>,

    /// Give up the mmap lock now and then, so that ps(1) and others that look do not have to wait
    #[arg(long = "yield")]
    pub(crate) yielding: bool,

    /// Skip files larger than this: 4096, 64K, 100M, 2G (in powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max: Option<u64>,

    /// Go into the background when everything is locked
    #[arg(long)]
    pub(crate) daemon: bool,

    /// Write the process id here, and remove the file at the end
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) pid_file: Option<PathBuf>,

    /// Do not say what was skipped
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// The process that --daemon starts: says on standard output when it is ready
    #[arg(long, hide = true)]
    pub(crate) in_background: bool,
}

/// Show what is locked and in memory
///
/// Without an argument: all processes that have locked memory. For a process: its mappings. For a
/// file: how much of it is in memory, and who has it mapped and locked. The bar shows how much of a
/// mapping, or which part of a file, is in memory.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// A process id or a file (./123 for a file that is called 123)
    #[arg(value_name = "PID|FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) what: Option<PathBuf>,

    /// Only locked mappings
    #[arg(long)]
    pub(crate) locked: bool,

    /// Print JSON; sizes are in bytes
    #[arg(long)]
    pub(crate) json: bool,
}

/// See whether mlock_rs can be used here, and what to do if not
///
/// Fails if it cannot be used.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the race that mlock(2) loses
///
/// While a call locks 4 MiB, another thread replaces one of the pages by one that is not locked. If
/// it gets in before the call is over, and the call returns success, that success was not true.
/// Fails if this happens to mlock_rs.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many calls to make in each way
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) calls: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a program whose mlock, mlock2 and munlock go through the device
///
/// The program has to be linked dynamically. mlockall(2), system calls that do not come by the C
/// library, and programs that gain privileges are not covered.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Without mlockctl: LD_PRELOAD=libmlock_rs_preload.so, \
    MLOCK_RS_STRICT=1 for --strict, MLOCK_RS_STATS=1 for --stats; MLOCK_RS_STATS=FILE appends to a \
    file."
)]
pub(crate) struct Run {
    /// Never use the system calls: without the device they fail with ENOSYS
    #[arg(long)]
    pub(crate) strict: bool,

    /// Say on standard error, when the program exits, what went through the device
    #[arg(long)]
    pub(crate) stats: bool,

    /// The preload library [default: the one beside mlockctl, or in ../lib/mlock_rs from there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) library: Option<PathBuf>,

    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

fn size(text: &str) -> Result<u64, parse_size::Error> {
    parse_size::Config::new().with_binary().parse_size(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("64K").unwrap(), 65536);
        assert_eq!(size("1.5M").unwrap(), 3 << 19);
        assert!(size("many").is_err());
    }
}
