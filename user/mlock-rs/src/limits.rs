// SPDX-License-Identifier: GPL-2.0

//! How much this process may lock.

use crate::{Error, Rule, error::Doing};
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};
use std::fs;

/// How much the calling process may lock, and how much it has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `RLIMIT_MEMLOCK`, what holds now; `None` if there is no limit.
    pub soft: Option<u64>,
    /// `RLIMIT_MEMLOCK`, up to which the process can raise it itself.
    pub hard: Option<u64>,
    /// Bytes that are locked (`VmLck`).
    pub locked: u64,
    /// Whether the calling thread has `CAP_IPC_LOCK`, so that the limit does not hold for it.
    pub cap_ipc_lock: bool,
}

impl Limits {
    /// What holds at this moment.
    pub fn now() -> Self {
        let memlock = getrlimit(Resource::Memlock);
        Self {
            soft: memlock.current,
            hard: memlock.maximum,
            locked: locked_bytes(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            cap_ipc_lock: capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK)),
        }
    }

    /// Whether `bytes` more, in whole pages, can be locked.
    ///
    /// # Errors
    ///
    /// [`Rule::NotPermitted`] or [`Rule::OverLimit`].
    pub fn check(&self, bytes: u64) -> Result<(), Error> {
        match self.broken_by(bytes) {
            Some(rule) => Err(Error::of(Doing::Lock { bytes }, rule)),
            None => Ok(()),
        }
    }

    pub(crate) fn broken_by(&self, bytes: u64) -> Option<Rule> {
        let limit = self.soft.filter(|_| !self.cap_ipc_lock)?;
        let wanted = self.locked.saturating_add(bytes);
        match limit {
            0 => Some(Rule::NotPermitted { wanted }),
            _ if wanted > limit => Some(Rule::OverLimit {
                limit,
                locked: self.locked,
                wanted,
            }),
            _ => None,
        }
    }
}

/// `VmLck` of a `/proc/PID/status`, in bytes.
fn locked_bytes(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        soft: Some(8 << 20),
        hard: None,
        locked: 1 << 20,
        cap_ipc_lock: false,
    };

    #[test]
    fn what_is_locked_counts() {
        assert_eq!(LIMITS.broken_by(7 << 20), None);
        let over = Rule::OverLimit {
            limit: 8 << 20,
            locked: 1 << 20,
            wanted: (8 << 20) + 4096,
        };
        assert_eq!(LIMITS.broken_by((7 << 20) + 4096), Some(over));
    }

    #[test]
    fn no_limit_and_the_capability_allow_everything() {
        let unlimited = Limits {
            soft: None,
            ..LIMITS
        };
        let capable = Limits {
            cap_ipc_lock: true,
            soft: Some(0),
            ..LIMITS
        };
        assert_eq!(unlimited.broken_by(u64::MAX), None);
        assert_eq!(capable.broken_by(u64::MAX), None);
    }

    #[test]
    fn a_limit_of_0_forbids_it() {
        let none = Limits {
            soft: Some(0),
            locked: 0,
            ..LIMITS
        };
        assert_eq!(none.broken_by(1), Some(Rule::NotPermitted { wanted: 1 }));
    }

    #[test]
    fn vmlck_is_in_kib() {
        assert_eq!(
            locked_bytes("Name:\tx\nVmLck:\t     128 kB\nVmPin:\t 1 kB\n"),
            128 << 10
        );
        assert_eq!(locked_bytes("Name:\tkthreadd\n"), 0);
    }
}
