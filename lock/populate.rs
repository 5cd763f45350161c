// SPDX-License-Identifier: GPL-2.0

//! Populate: fault the pages of a range in.
//!
//! Lock state: the mmap lock is held for reading on entry, throughout, and on exit. It is never
//! given up, not even to wait for I/O: a fault that would sleep starts its I/O and comes back, and
//! the wait is a killable sleep.

use super::Failure;
use crate::mm::{
    MmapLocked,
    MmapReadGuard,
    PageRange,
    Progress, //
};
use kernel::prelude::*;

/// How long to sleep when a page waits for I/O, in microseconds. It begins with what a fast disk
/// takes to answer and doubles each time the page is still not there.
const WAIT_MIN: u32 = 50;
const WAIT_MAX: u32 = 16_000;

/// Fault in all pages of `ranges`, and return how many bytes of them, in this order, were seen to
/// be resident.
///
/// Goes from VMA to VMA as `__mm_populate()` does, with its rules: PFNMAP and I/O mappings are
/// skipped, so are lock-on-fault ones; private writable ones are faulted in for writing; the rest
/// for reading, even where the caller may only write or execute.
///
/// # Errors
///
/// - ENOMEM: a page cannot be faulted in.
/// - EAGAIN: no memory for a page.
/// - EINTR: a fatal signal.
pub(super) fn populate(
    guard: &MmapReadGuard<'_>,
    ranges: &[PageRange],
) -> (usize, Result<(), Failure>) {
    let mut populated = 0usize;

    for range in ranges {
        let mut addr = range.start();
        while addr < range.end() {
            let (next, result) = populate_vma(guard, addr, range.end());
            populated = populated.saturating_add(next.saturating_sub(addr));
            addr = next;
            if let Err(error) = result {
                return (populated, Err(Failure::at(addr, error)));
            }
        }
    }
    (populated, Ok(()))
}

/// Fault in what lies between `addr` and `end` of the VMA at `addr`, and return the address up to
/// which that was done.
fn populate_vma(guard: &MmapReadGuard<'_>, addr: usize, end: usize) -> (usize, Result) {
    let vma = match guard.find_vma(addr) {
        Some(vma) if vma.start() <= addr => vma,
        // Unreachable while the lock is held, since the plan found no hole.
        _ => return (addr, Err(ENOMEM)),
    };
    let end = end.min(vma.end());
    if vma.is_never_populated() || vma.is_lock_on_fault() {
        return (end, Ok(()));
    }
    let Some(access) = vma.fault_access() else {
        return (addr, Err(ENOMEM));
    };

    let mut addr = addr;
    let mut wait = WAIT_MIN;
    while addr < end {
        match guard.fault_in(addr, end, access) {
            Ok(Progress::Until(next)) => {
                addr = next;
                wait = WAIT_MIN;
            }
            Ok(Progress::Blocked) => {
                guard.sleep_killable(wait);
                wait = wait.saturating_mul(2).min(WAIT_MAX);
            }
            Err(error) => return (addr, Err(posix_error(error))),
        }
    }
    (addr, Ok(()))
}

/// What mlock(2) says for an error of `get_user_pages()`: `__mlock_posix_error_return()`.
fn posix_error(error: Error) -> Error {
    if error == EFAULT {
        ENOMEM
    } else if error == ENOMEM {
        EAGAIN
    } else {
        error
    }
}

#[kunit_tests(mlock_rs_populate)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_mlock() {
        assert_eq!(posix_error(EFAULT), ENOMEM);
        assert_eq!(posix_error(ENOMEM), EAGAIN);
    }

    #[test]
    fn other_errors_stay() {
        for error in [EINTR, EAGAIN, EBUSY, EINVAL, EIO] {
            assert_eq!(posix_error(error), error);
        }
    }
}
