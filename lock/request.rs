// SPDX-License-Identifier: GPL-2.0

//! A request: what the caller asks for, checked so far that it cannot be wrong any more.
//!
//! Takes no lock and looks at no VMA.

use crate::mm::{
    uapi::{
        self,
        mlock_rs_lock,
        mlock_rs_lockv,
        mlock_rs_range,
        mlock_rs_unlock,
        mlock_rs_unlockv, //
    },
    untagged_addr,
    LockMode,
    PageRange, //
};
use kernel::{
    prelude::*,
    uaccess::UserPtr, //
};

/// What to do with the lock flags of which ranges.
pub(crate) struct Request {
    mode: LockMode,
    /// Sorted by address; no two of them overlap or touch. May be empty, as mlock(2) accepts an
    /// empty range.
    ranges: KVec<PageRange>,
}

impl Request {
    /// Check the argument of LOCK.
    ///
    /// # Errors
    ///
    /// - EINVAL: an unknown flag, a reserved field that is not zero, or a range that wraps
    ///   around the end of the address space. (mlock(2) lets a length near the maximum wrap around to 0 and
    ///   returns success.)
    /// - ENOMEM: no memory for the request itself.
    pub(crate) fn lock(arg: &mlock_rs_lock) -> Result<Self> {
        let mode = lock_mode(arg.flags)?;
        if arg.__reserved != 0 {
            return Err(EINVAL);
        }
        Self::one(mode, arg.addr, arg.len)
    }

    /// Check the argument of UNLOCK. Errors as for [`Request::lock`].
    pub(crate) fn unlock(arg: &mlock_rs_unlock) -> Result<Self> {
        if arg.flags != 0 || arg.__reserved != 0 {
            return Err(EINVAL);
        }
        Self::one(LockMode::Unlocked, arg.addr, arg.len)
    }

    /// Check the argument of LOCKV and read its ranges.
    ///
    /// # Errors
    ///
    /// As for [`Request::lock`], and
    ///
    /// - EINVAL: more than `MLOCK_RS_MAX_RANGES` ranges.
    /// - EFAULT: the ranges cannot be read.
    pub(crate) fn lockv(arg: &mlock_rs_lockv) -> Result<Self> {
        Self::many(lock_mode(arg.flags)?, arg.ranges, arg.nr_ranges)
    }

    /// Check the argument of UNLOCKV and read its ranges. Errors as for [`Request::lockv`].
    pub(crate) fn unlockv(arg: &mlock_rs_unlockv) -> Result<Self> {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        Self::many(LockMode::Unlocked, arg.ranges, arg.nr_ranges)
    }

    fn one(mode: LockMode, addr: u64, len: u64) -> Result<Self> {
        let mut ranges = KVec::new();
        if let Some(range) = page_range(addr, len)? {
            ranges.push(range, GFP_KERNEL)?;
        }
        Ok(Self { mode, ranges })
    }

    fn many(mode: LockMode, ranges: u64, nr_ranges: u32) -> Result<Self> {
        if nr_ranges > uapi::MLOCK_RS_MAX_RANGES {
            return Err(EINVAL);
        }
        let array = UserPtr::from_addr(usize::try_from(ranges)?);
        let mut ranges = KVec::with_capacity(nr_ranges as usize, GFP_KERNEL)?;

        uapi::read_array(
            array,
            nr_ranges as usize,
            |range: mlock_rs_range| match page_range(range.addr, range.len)? {
                Some(range) => insert_sorted(&mut ranges, range),
                None => Ok(()),
            },
        )?;
        join_touching(&mut ranges);
        Ok(Self { mode, ranges })
    }

    pub(crate) fn mode(&self) -> LockMode {
        self.mode
    }

    pub(crate) fn ranges(&self) -> &[PageRange] {
        &self.ranges
    }
}

/// The mode that flags of LOCK and LOCKV stand for.
fn lock_mode(flags: u32) -> Result<LockMode> {
    match flags {
        0 => Ok(LockMode::Resident),
        uapi::MLOCK_RS_LOCK_ONFAULT => Ok(LockMode::OnFault),
        _ => Err(EINVAL),
    }
}

/// The pages of a range, as mlock(2) rounds it.
pub(super) fn page_range(addr: u64, len: u64) -> Result<Option<PageRange>> {
    PageRange::covering(untagged_addr(usize::try_from(addr)?), usize::try_from(len)?)
}

/// Insert `range` into `ranges`, which are sorted and have room for it.
///
/// Most callers have their ranges sorted; then nothing has to move. `sort_unstable()` has ways to
/// panic.
fn insert_sorted(ranges: &mut KVec<PageRange>, range: PageRange) -> Result {
    let index = ranges.partition_point(|other| other.start() <= range.start());
    ranges
        .insert_within_capacity(index, range)
        .map_err(|_| EINVAL)
}

/// Make one of those ranges, sorted as they are, that overlap or touch.
fn join_touching(ranges: &mut KVec<PageRange>) {
    let mut kept = 0usize;
    for next in 0..ranges.len() {
        let Some(&range) = ranges.get(next) else {
            break;
        };
        let last = kept.checked_sub(1).and_then(|last| ranges.get_mut(last));
        if last.is_some_and(|last| last.join(range)) {
            continue;
        }
        if let Some(slot) = ranges.get_mut(kept) {
            *slot = range;
        }
        kept = kept.saturating_add(1);
    }
    ranges.truncate(kept);
}
