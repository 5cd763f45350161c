// SPDX-License-Identifier: GPL-2.0

//! What went wrong, in terms of the rule that was hit, and what to do about it.

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What fails with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that failed. `{}` prints what happened, `{:#}` also what to do, on lines of its own.
#[derive(Clone, Debug)]
pub struct Error {
    doing: Doing,
    rule: Rule,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Open,
    Map,
    Lock { bytes: u64 },
    Unlock,
    Query,
}

/// The rule that was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// There is no such device: the module is not loaded. (ENOENT, ENODEV, ENXIO)
    NoDevice {
        /// What was opened.
        path: PathBuf,
    },
    /// The device cannot be opened by this user. (EACCES, EPERM)
    DeviceDenied {
        /// What was opened.
        path: PathBuf,
    },
    /// What was opened is not the device, or it is one that does not know this call. (ENOTTY)
    NotTheDevice {
        /// What was opened.
        path: PathBuf,
    },
    /// mlock(2) is used, which cannot do this.
    NeedsModule,
    /// `RLIMIT_MEMLOCK` is 0 and there is no `CAP_IPC_LOCK`. (EPERM)
    NotPermitted {
        /// How many bytes would be locked.
        wanted: u64,
    },
    /// `RLIMIT_MEMLOCK` is too low, and there is no `CAP_IPC_LOCK`. (ENOMEM)
    OverLimit {
        /// The limit, in bytes.
        limit: u64,
        /// What was locked before.
        locked: u64,
        /// What would be locked.
        wanted: u64,
    },
    /// There is a hole in the range. (ENOMEM)
    NotMapped {
        /// The first page that is not mapped.
        addr: u64,
    },
    /// A mapping had to be cut in two at an end of the range, and that failed: there is no memory
    /// for it, or there are `vm.max_map_count` mappings. (ENOMEM)
    CannotSplit {
        /// Where it had to be cut.
        addr: u64,
    },
    /// The range is registered with userfaultfd, whose handler could not run while the mmap lock
    /// is held. (EBUSY)
    Userfaultfd {
        /// The first such page.
        addr: u64,
    },
    /// The range wraps around the end of the address space. (EINVAL)
    BadRange,
    /// There are more ranges than the module takes in one call. (EINVAL)
    TooManyRanges {
        /// How many it takes.
        most: u32,
    },
    /// More threads are to populate than the module takes. (EINVAL)
    TooManyWorkers {
        /// How many it takes.
        most: u32,
    },
    /// The time that others may wait for the mmap lock is longer than a second. (EINVAL)
    BadSlice,
    /// The module is older than this.
    NotSupported {
        /// The name of what it does not know.
        what: &'static str,
    },
    /// The kernel has no memory for the call itself. (ENOMEM)
    NoMemoryForCall,
    /// Locked, but a page cannot be faulted in: no access, a guard region, past the end of the
    /// file, an I/O error, a poisoned page, secret memory, a protection key, or no huge page left.
    /// (ENOMEM)
    CannotPopulate {
        /// The page.
        addr: u64,
        /// How many bytes before it are resident.
        populated: u64,
    },
    /// Locked, but there is no memory for a page. (EAGAIN)
    NoMemoryForPage {
        /// The page; 0 if mlock(2) does not tell.
        addr: u64,
        /// How many bytes before it are resident.
        populated: u64,
    },
    /// Locked, but a page is memory of a device that cannot be pinned. (EREMOTEIO)
    PeerToPeer {
        /// The page.
        addr: u64,
    },
    /// A signal arrived. (EINTR)
    Interrupted {
        /// The first page that is not known to be resident: go on here. 0 if nothing was locked.
        addr: u64,
        /// How many bytes before it are resident.
        populated: u64,
    },
    /// Another thread has unmapped, replaced or unlocked a page while the mmap lock was given up.
    /// (ESTALE)
    Changed {
        /// The page.
        addr: u64,
        /// How many bytes before it are resident.
        populated: u64,
    },
    /// mlock(2) says ENOMEM, and the limit is not the reason: there is a hole, or a page that
    /// cannot be faulted in. Part of the range may be locked.
    Mlock,
    /// Another errno.
    Other(Errno),
}

/// What a call that failed has said, and what had to be asked to understand it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    /// The ranges are locked.
    pub(crate) changed: bool,
    pub(crate) addr: u64,
    pub(crate) populated: u64,
    /// How many ranges it takes, if there were more.
    pub(crate) too_many: Option<u32>,
    /// Something is mapped at `addr`.
    pub(crate) mapped_there: bool,
    /// A range begins at address 0, where nothing is mapped.
    pub(crate) hole_at_0: bool,
    /// The limit that is in the way, if one is.
    pub(crate) over_limit: Option<Rule>,
}

impl Failure {
    pub(crate) fn without_result(errno: Errno) -> Self {
        Self {
            errno,
            changed: false,
            addr: 0,
            populated: 0,
            too_many: None,
            mapped_there: false,
            hole_at_0: false,
            over_limit: None,
        }
    }

    pub(crate) fn explain(self, doing: Doing) -> Error {
        Error::of(doing, self.rule(doing))
    }

    fn rule(self, doing: Doing) -> Rule {
        let Self {
            addr, populated, ..
        } = self;
        match self.errno {
            Errno::PERM => Rule::NotPermitted {
                wanted: match doing {
                    Doing::Lock { bytes } => bytes,
                    _ => 0,
                },
            },
            Errno::BUSY => Rule::Userfaultfd { addr },
            Errno::INVAL => match self.too_many {
                Some(most) => Rule::TooManyRanges { most },
                None => Rule::BadRange,
            },
            Errno::NOMEM if self.changed => Rule::CannotPopulate { addr, populated },
            Errno::AGAIN => Rule::NoMemoryForPage { addr, populated },
            Errno::REMOTEIO => Rule::PeerToPeer { addr },
            Errno::STALE => Rule::Changed { addr, populated },
            Errno::INTR => Rule::Interrupted {
                addr: if self.changed { addr } else { 0 },
                populated,
            },
            // A failure with an address is one of the range; a hole at 0 has none to show.
            Errno::NOMEM if addr != 0 && self.mapped_there => Rule::CannotSplit { addr },
            Errno::NOMEM if addr != 0 || self.hole_at_0 => Rule::NotMapped { addr },
            Errno::NOMEM => self.over_limit.unwrap_or(Rule::NoMemoryForCall),
            errno => Rule::Other(errno),
        }
    }
}

impl Error {
    pub(crate) fn of(doing: Doing, rule: Rule) -> Self {
        Self { doing, rule }
    }

    pub(crate) fn other(doing: Doing, errno: Errno) -> Self {
        Self::of(doing, Rule::Other(errno))
    }

    pub(crate) fn opening(path: &Path, errno: Errno) -> Self {
        let path = path.to_path_buf();
        let rule = match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR => Rule::NoDevice { path },
            Errno::ACCESS | Errno::PERM => Rule::DeviceDenied { path },
            Errno::NOTTY | Errno::INVAL | Errno::ISDIR => Rule::NotTheDevice { path },
            errno => Rule::Other(errno),
        };
        Self::of(Doing::Open, rule)
    }

    pub(crate) fn of_mlock(doing: Doing, errno: Errno, over_limit: Option<Rule>) -> Self {
        let failure = Failure::without_result(errno);
        match errno {
            Errno::NOMEM => Self::of(doing, over_limit.unwrap_or(Rule::Mlock)),
            _ => failure.explain(doing),
        }
    }

    /// The rule that was hit.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whether all lock flags are as they were before the call.
    pub fn nothing_changed(&self) -> bool {
        !matches!(
            self.rule,
            Rule::CannotPopulate { .. }
                | Rule::NoMemoryForPage { .. }
                | Rule::PeerToPeer { .. }
                | Rule::Interrupted { addr: 1.., .. }
                | Rule::Changed { .. }
                | Rule::Mlock
                | Rule::Other(_)
        )
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.rule {
            Rule::NoDevice { .. } => {
                "Load the module: `sudo modprobe mlock_rs`. It needs Linux 7.3 \
                or later; `mlockctl doctor` tells more."
                    .into()
            }
            Rule::DeviceDenied { path } => format!(
                "Let everybody use it, as mlock(2) is for everybody: install the udev rule \
                 60-mlock_rs.rules, or, until the next boot, `sudo chmod 666 {}`.",
                path.display()
            ),
            Rule::NotTheDevice { path } => format!(
                "Look what {} is, and whether the module is as new as this program.",
                path.display()
            ),
            Rule::NeedsModule => "Open the device without falling back to mlock(2).".into(),
            Rule::NotPermitted { wanted } | Rule::OverLimit { wanted, .. } => raise_limit(*wanted),
            Rule::NotMapped { .. } => {
                "Lock only what is mapped; /proc/PID/maps shows what is.".into()
            }
            Rule::CannotSplit { .. } => "Allow more mappings, `sudo sysctl \
                vm.max_map_count=1048576`, or lock whole mappings."
                .into(),
            Rule::Userfaultfd { .. } => "Lock it yielding or on fault, or unregister it from \
                userfaultfd first."
                .into(),
            Rule::BadRange => "Check the length.".into(),
            Rule::TooManyRanges { most } => format!("Lock {most} ranges at a time."),
            Rule::TooManyWorkers { most } => format!("Ask for up to {most}, or for none."),
            Rule::BadSlice => "Ask for a shorter time.".into(),
            Rule::NotSupported { .. } => {
                "Load a newer module, or do without: `mlockctl doctor` says what this one can."
                    .into()
            }
            Rule::Interrupted { addr: 0, .. } => "Try again.".into(),
            Rule::Interrupted { addr, .. } => {
                format!("Lock the rest, from {addr:#x} on, or unlock the range.")
            }
            Rule::Changed { .. } => "Find the thread that unmaps, replaces or unlocks it; or lock \
                it without yielding, then that thread has to wait."
                .into(),
            Rule::NoMemoryForCall | Rule::NoMemoryForPage { .. } => {
                "Free memory, raise the limit of the control group (memory.max), or lock less."
                    .into()
            }
            Rule::CannotPopulate { .. } => "Look at this page's line in /proc/PID/maps: is it \
                readable, is the file long enough? The kernel log tells of I/O errors. Or lock it \
                on fault."
                .into(),
            Rule::PeerToPeer { .. } => "Leave the memory of the device out.".into(),
            Rule::Mlock => "Use the module, which tells what it is.".into(),
            Rule::Other(_) => "The manual pages mlock_rs(4) and mlock(2) list the errors.".into(),
        }
    }
}

/// The ways to be allowed to lock `wanted` bytes, ready to be typed.
fn raise_limit(wanted: u64) -> String {
    let kib = wanted.div_ceil(1024);
    let shell = match getrlimit(Resource::Memlock).maximum {
        Some(hard) if hard < wanted => format!(
            "`sudo prlimit --memlock={bytes}: --pid $$` (the hard limit is {hard} KiB)",
            bytes = kib * 1024,
            hard = hard / 1024
        ),
        _ => format!("`ulimit -l {kib}`"),
    };
    let program = std::env::current_exe().map_or("PROGRAM".into(), |exe| exe.display().to_string());
    format!(
        "Allow {kib} KiB in one of these ways:\n\
         \x20 in this shell:      {shell}\n\
         \x20 for this program:   `sudo setcap cap_ipc_lock=ep {program}`\n\
         \x20 in a systemd unit:  LimitMEMLOCK={kib}K\n\
         \x20 for a user:         `USER - memlock {kib}` in /etc/security/limits.conf"
    )
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.doing, self.rule)?;
        if matches!(self.doing, Doing::Lock { .. } | Doing::Unlock) {
            f.write_str(match self.rule {
                Rule::Mlock | Rule::Other(_) | Rule::NotSupported { .. } => "",
                Rule::Changed { .. } => "; the rest of the range is locked, but not all in memory",
                _ if self.nothing_changed() => "; nothing was changed",
                _ => "; the range is locked, but not all of it is in memory",
            })?;
        }
        if f.alternate() {
            write!(f, "\n{}", self.remedy())?;
        }
        Ok(())
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doing::Open => Ok(()),
            Doing::Map => f.write_str("cannot map it: "),
            Doing::Lock { bytes } if *bytes < u64::MAX => {
                write!(f, "cannot lock {}: ", Bytes(*bytes))
            }
            Doing::Lock { .. } => f.write_str("cannot lock: "),
            Doing::Unlock => f.write_str("cannot unlock: "),
            Doing::Query => f.write_str("cannot look: "),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::NoDevice { path } => {
                write!(
                    f,
                    "there is no {}: the module is not loaded",
                    path.display()
                )
            }
            Rule::DeviceDenied { path } => {
                write!(f, "this user may not open {}", path.display())
            }
            Rule::NotTheDevice { path } => {
                write!(f, "{} is not the device of mlock_rs", path.display())
            }
            Rule::NeedsModule => f.write_str("mlock(2), in use here, cannot tell"),
            Rule::NotPermitted { .. } => f.write_str(
                "the limit for locked memory (RLIMIT_MEMLOCK) is 0, and there is no CAP_IPC_LOCK",
            ),
            Rule::OverLimit {
                limit,
                locked,
                wanted,
            } => {
                write!(
                    f,
                    "the limit for locked memory (RLIMIT_MEMLOCK) is {}",
                    Bytes(*limit)
                )?;
                if *locked > 0 {
                    write!(f, ", {} are locked already", Bytes(*locked))?;
                }
                write!(f, ", {} are needed", Bytes(*wanted))
            }
            Rule::NotMapped { addr } => write!(f, "nothing is mapped at {addr:#x}"),
            Rule::CannotSplit { addr } => write!(
                f,
                "the mapping at {addr:#x} cannot be split: there is no memory for it, or there are \
                 too many mappings (vm.max_map_count)"
            ),
            Rule::Userfaultfd { addr } => write!(
                f,
                "the memory at {addr:#x} is registered with userfaultfd, whose handler could not \
                 run while the mmap lock is held"
            ),
            Rule::BadRange => f.write_str("the range wraps around the end of the address space"),
            Rule::TooManyRanges { most } => {
                write!(
                    f,
                    "there are more than the {most} ranges that one call can have"
                )
            }
            Rule::TooManyWorkers { most } => {
                write!(f, "one call can have up to {most} threads")
            }
            Rule::BadSlice => f.write_str("others can be made to wait up to a second, not longer"),
            Rule::NotSupported { what } => {
                write!(f, "the module that is loaded does not know {what} yet")
            }
            Rule::NoMemoryForCall => f.write_str("the kernel has no memory for the call"),
            Rule::CannotPopulate { addr, populated } => {
                write!(f, "the page at {addr:#x} cannot be faulted in")?;
                after(f, *populated)
            }
            Rule::NoMemoryForPage { addr: 0, .. } => f.write_str("there is no memory for a page"),
            Rule::NoMemoryForPage { addr, populated } => {
                write!(f, "there is no memory for the page at {addr:#x}")?;
                after(f, *populated)
            }
            Rule::PeerToPeer { addr } => {
                write!(f, "the page at {addr:#x} is memory of a device")
            }
            Rule::Interrupted { addr: 0, .. } => f.write_str("a signal arrived"),
            Rule::Interrupted { addr, populated } => {
                write!(
                    f,
                    "a signal arrived before the page at {addr:#x} was in memory"
                )?;
                after(f, *populated)
            }
            Rule::Changed { addr, populated } => {
                write!(
                    f,
                    "another thread has unmapped, replaced or unlocked the page at {addr:#x} \
                     meanwhile"
                )?;
                after(f, *populated)
            }
            Rule::Mlock => f.write_str(
                "mlock(2) found a hole or a page that cannot be faulted in; it does not tell \
                 where, nor how much of the range is locked now",
            ),
            Rule::Other(errno) => write!(f, "{errno}"),
        }
    }
}

fn after(f: &mut fmt::Formatter<'_>, populated: u64) -> fmt::Result {
    match populated {
        0 => Ok(()),
        bytes => write!(f, " ({} before it are)", Bytes(bytes)),
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let unit = ((self.0.ilog2() / 10) as usize - 1).min(UNITS.len() - 1);
        let scaled = self.0 as f64 / 1024f64.powi(unit as i32 + 1);
        match self.0 % 1024 {
            0 if unit == 0 => write!(f, "{scaled:.0} {}", UNITS[unit]),
            _ => write!(f, "{scaled:.2} {}", UNITS[unit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Doing = Doing::Lock { bytes: 3 << 20 };

    fn rule(errno: Errno, change: impl FnOnce(&mut Failure)) -> Rule {
        let mut failure = Failure::without_result(errno);
        failure.addr = 0x1000;
        change(&mut failure);
        failure.explain(LOCK).rule
    }

    #[test]
    fn one_errno_is_several_rules() {
        let addr = 0x1000;
        let populated = 8192;
        assert_eq!(rule(Errno::NOMEM, |_| ()), Rule::NotMapped { addr });
        assert_eq!(
            rule(Errno::NOMEM, |f| f.mapped_there = true),
            Rule::CannotSplit { addr }
        );
        assert_eq!(
            rule(Errno::NOMEM, |f| (f.changed, f.populated) = (true, 8192)),
            Rule::CannotPopulate { addr, populated }
        );
        let limit = Rule::OverLimit {
            limit: 1,
            locked: 2,
            wanted: 3,
        };
        assert_eq!(
            rule(Errno::NOMEM, |f| {
                (f.addr, f.over_limit) = (0, Some(limit.clone()));
            }),
            limit
        );
        assert_eq!(rule(Errno::NOMEM, |f| f.addr = 0), Rule::NoMemoryForCall);
        assert_eq!(
            rule(Errno::NOMEM, |f| (f.addr, f.hole_at_0) = (0, true)),
            Rule::NotMapped { addr: 0 }
        );
        assert_eq!(rule(Errno::INVAL, |_| ()), Rule::BadRange);
        assert_eq!(
            rule(Errno::INVAL, |f| f.too_many = Some(1024)),
            Rule::TooManyRanges { most: 1024 }
        );
    }

    #[test]
    fn other_errnos_are_one_rule_each() {
        let addr = 0x1000;
        let wanted = 3 << 20;
        for (errno, expected) in [
            (Errno::BUSY, Rule::Userfaultfd { addr }),
            (Errno::PERM, Rule::NotPermitted { wanted }),
            (Errno::AGAIN, Rule::NoMemoryForPage { addr, populated: 0 }),
            (Errno::REMOTEIO, Rule::PeerToPeer { addr }),
            (Errno::STALE, Rule::Changed { addr, populated: 0 }),
            // Nothing is locked: it had not yet begun.
            (
                Errno::INTR,
                Rule::Interrupted {
                    addr: 0,
                    populated: 0,
                },
            ),
            (Errno::TOOBIG, Rule::Other(Errno::TOOBIG)),
        ] {
            assert_eq!(rule(errno, |_| ()), expected);
        }
    }

    #[test]
    fn opening_fails_for_three_reasons() {
        let rule = |errno| Error::opening(Path::new("/dev/x"), errno).rule;
        let path: PathBuf = "/dev/x".into();
        assert_eq!(rule(Errno::NOENT), Rule::NoDevice { path: path.clone() });
        assert_eq!(
            rule(Errno::ACCESS),
            Rule::DeviceDenied { path: path.clone() }
        );
        assert_eq!(rule(Errno::NOTTY), Rule::NotTheDevice { path });
    }

    #[test]
    fn a_limit_is_told_with_what_to_type() {
        let rule = Rule::OverLimit {
            limit: 1 << 20,
            locked: 4096,
            wanted: (3 << 20) + 4096,
        };
        let error = Error::of(LOCK, rule);
        assert_eq!(
            error.to_string(),
            "cannot lock 3.00 MiB: the limit for locked memory (RLIMIT_MEMLOCK) is 1.00 MiB, \
             4 KiB are locked already, 3.00 MiB are needed; nothing was changed"
        );
        let all = format!("{error:#}");
        assert!(all.contains("LimitMEMLOCK=3076K"), "{all}");
        assert!(all.contains("`USER - memlock 3076`"), "{all}");
    }

    #[test]
    fn whether_something_changed_is_told() {
        let cannot = Error::of(
            LOCK,
            Rule::CannotPopulate {
                addr: 4096,
                populated: 8192,
            },
        );
        assert_eq!(
            cannot.to_string(),
            "cannot lock 3.00 MiB: the page at 0x1000 cannot be faulted in (8 KiB before it are); \
             the range is locked, but not all of it is in memory"
        );
        assert!(!cannot.nothing_changed());
        let interrupted = |addr| Error::of(LOCK, Rule::Interrupted { addr, populated: 0 });
        assert!(interrupted(0).nothing_changed());
        assert!(!interrupted(4096).nothing_changed());
        assert!(Error::of(LOCK, Rule::BadRange).nothing_changed());
        assert!(!Error::of(LOCK, Rule::Mlock).nothing_changed());
    }
}
