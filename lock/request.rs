// SPDX-License-Identifier: GPL-2.0

//! A request: what the caller asks for, checked so far that it cannot be wrong any more.
//!
//! Takes no lock and looks at no VMA.

use super::one_or_many::OneOrMany;
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
    PageRange,
    Signals, //
};
use kernel::{
    prelude::*,
    time::Delta,
    uaccess::UserPtr, //
};

/// How to populate.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// How many threads, the caller among them; `None` if that is to be chosen.
    pub(super) threads: Option<usize>,
    /// How long others may wait for the mmap lock, if the call gives it up for them.
    pub(super) slice: Option<Delta>,
    /// What ends the call.
    pub(super) signals: Signals,
}

impl Manner {
    /// Of a call that does not populate.
    const NONE: Self = Self {
        threads: Some(1),
        slice: None,
        signals: Signals::Fatal,
    };

    /// What flags and numbers of LOCK and LOCKV say.
    ///
    /// # Errors
    ///
    /// EINVAL: too many workers, a slice that is too long, or one without YIELD.
    fn of(flags: u32, nr_workers: u32, slice_us: u32) -> Result<Self> {
        let slice = match (flags & uapi::MLOCK_RS_LOCK_YIELD != 0, slice_us) {
            (false, 0) => None,
            (true, 0) => Some(uapi::MLOCK_RS_DEFAULT_SLICE_US),
            (true, 1..=uapi::MLOCK_RS_MAX_SLICE_US) => Some(slice_us),
            _ => return Err(EINVAL),
        };
        let threads = match nr_workers {
            0 => None,
            1..=uapi::MLOCK_RS_MAX_WORKERS => Some(nr_workers as usize),
            _ => return Err(EINVAL),
        };
        Ok(Self {
            threads,
            slice: slice.map(|micros| Delta::from_micros(micros.into())),
            signals: match flags & uapi::MLOCK_RS_LOCK_INTERRUPTIBLE {
                0 => Signals::Fatal,
                _ => Signals::Any,
            },
        })
    }
}

/// What to do with the lock flags of which ranges.
pub(crate) struct Request {
    mode: LockMode,
    manner: Manner,
    /// Sorted by address; no two of them overlap or touch. May be empty, as mlock(2) accepts an
    /// empty range.
    ranges: OneOrMany<PageRange>,
}

impl Request {
    /// Check the argument of LOCK.
    ///
    /// # Errors
    ///
    /// - EINVAL: an unknown flag, a reserved field that is not zero, too many workers, a slice that
    ///   is too long or without YIELD, or a range that wraps around the end of the address space.
    ///   (mlock(2) lets a length near the maximum wrap around to 0 and returns success.)
    pub(crate) fn lock(arg: &mlock_rs_lock) -> Result<Self> {
        let mode = lock_mode(arg.flags)?;
        let manner = Manner::of(arg.flags, arg.nr_workers, arg.slice_us)?;
        if arg.__reserved != 0 {
            return Err(EINVAL);
        }
        Self::one(mode, manner, arg.addr, arg.len)
    }

    /// Check the argument of UNLOCK. Errors as for [`Request::lock`].
    pub(crate) fn unlock(arg: &mlock_rs_unlock) -> Result<Self> {
        if arg.flags != 0 || arg.__reserved != 0 {
            return Err(EINVAL);
        }
        Self::one(LockMode::Unlocked, Manner::NONE, arg.addr, arg.len)
    }

    /// Check the argument of LOCKV and read its ranges.
    ///
    /// # Errors
    ///
    /// As for [`Request::lock`], and
    ///
    /// - EINVAL: more than `MLOCK_RS_MAX_RANGES` ranges.
    /// - EFAULT: the ranges cannot be read.
    /// - ENOMEM: no memory for them.
    pub(crate) fn lockv(arg: &mlock_rs_lockv) -> Result<Self> {
        let mode = lock_mode(arg.flags)?;
        let manner = Manner::of(arg.flags, arg.nr_workers, arg.slice_us)?;
        Self::many(mode, manner, arg.ranges, arg.nr_ranges)
    }

    /// Check the argument of UNLOCKV and read its ranges. Errors as for [`Request::lockv`].
    pub(crate) fn unlockv(arg: &mlock_rs_unlockv) -> Result<Self> {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        Self::many(LockMode::Unlocked, Manner::NONE, arg.ranges, arg.nr_ranges)
    }

    fn one(mode: LockMode, manner: Manner, addr: u64, len: u64) -> Result<Self> {
        Ok(Self {
            mode,
            manner,
            ranges: OneOrMany::One(page_range(addr, len)?),
        })
    }

    fn many(mode: LockMode, manner: Manner, ranges: u64, nr_ranges: u32) -> Result<Self> {
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
        Ok(Self {
            mode,
            manner,
            ranges: OneOrMany::Many(ranges),
        })
    }

    pub(crate) fn mode(&self) -> LockMode {
        self.mode
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    pub(crate) fn ranges(&self) -> &[PageRange] {
        &self.ranges
    }
}

/// The mode that flags of LOCK and LOCKV stand for.
fn lock_mode(flags: u32) -> Result<LockMode> {
    const MANNER: u32 = uapi::MLOCK_RS_LOCK_YIELD | uapi::MLOCK_RS_LOCK_INTERRUPTIBLE;

    match flags & !MANNER {
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
/// Most callers have their ranges sorted; then nothing has to be looked for, and nothing to move.
/// `sort_unstable()` has ways to panic.
fn insert_sorted(ranges: &mut KVec<PageRange>, range: PageRange) -> Result {
    let comes_before = |other: &PageRange| other.start() <= range.start();
    let index = match ranges.last().is_none_or(comes_before) {
        true => ranges.len(),
        false => ranges.partition_point(comes_before),
    };
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

#[kunit_tests(mlock_rs_request)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    /// First page and number of pages, counted in pages.
    type Pages = (usize, usize);

    /// What LOCKV makes of an array of ranges.
    fn merged(array: &[Pages]) -> Result<KVec<Pages>> {
        let mut ranges = KVec::with_capacity(array.len(), GFP_KERNEL)?;
        for &(first_page, nr_pages) in array {
            let (addr, len) = (first_page * PAGE_SIZE, nr_pages * PAGE_SIZE);
            if let Some(range) = page_range(addr as u64, len as u64)? {
                insert_sorted(&mut ranges, range)?;
            }
        }
        join_touching(&mut ranges);

        let mut merged = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        for range in &ranges {
            merged.push((range.start() / PAGE_SIZE, range.pages()), GFP_KERNEL)?;
        }
        Ok(merged)
    }

    #[test]
    fn ranges_that_are_apart_are_sorted() -> Result {
        let sorted = [(1, 1), (3, 2), (6, 1)];

        assert_eq!(merged(&sorted)?[..], sorted);
        assert_eq!(merged(&[(6, 1), (3, 2), (1, 1)])?[..], sorted);
        assert_eq!(merged(&[(3, 2), (1, 1), (6, 1)])?[..], sorted);
        Ok(())
    }

    #[test]
    fn ranges_that_touch_become_one() -> Result {
        assert_eq!(merged(&[(1, 1), (2, 1)])?[..], [(1, 2)]);
        assert_eq!(merged(&[(2, 1), (1, 1)])?[..], [(1, 2)]);
        assert_eq!(merged(&[(5, 1), (1, 2), (4, 1), (3, 1)])?[..], [(1, 5)]);
        Ok(())
    }

    #[test]
    fn ranges_that_overlap_become_one() -> Result {
        assert_eq!(merged(&[(1, 3), (3, 3)])?[..], [(1, 5)]);
        assert_eq!(merged(&[(3, 3), (1, 3)])?[..], [(1, 5)]);
        assert_eq!(merged(&[(1, 9), (3, 2), (5, 1)])?[..], [(1, 9)]);
        assert_eq!(merged(&[(3, 1), (3, 4), (3, 2)])?[..], [(3, 4)]);
        Ok(())
    }

    #[test]
    fn the_same_range_counts_once() -> Result {
        assert_eq!(merged(&[(4, 2), (4, 2), (4, 2)])?[..], [(4, 2)]);
        Ok(())
    }

    #[test]
    fn what_a_long_range_reaches_is_found_behind_a_short_one() -> Result {
        assert_eq!(
            merged(&[(1, 8), (2, 1), (9, 1), (11, 1)])?[..],
            [(1, 9), (11, 1)]
        );
        Ok(())
    }

    #[test]
    fn empty_ranges_vanish() -> Result {
        assert_eq!(merged(&[])?.len(), 0);
        assert_eq!(merged(&[(3, 0)])?.len(), 0);
        assert_eq!(
            merged(&[(3, 0), (1, 1), (2, 0), (3, 1)])?[..],
            [(1, 1), (3, 1)]
        );
        Ok(())
    }

    /// All pages of some ranges as bits, of 64 pages.
    fn bits(ranges: &[Pages]) -> u64 {
        ranges.iter().fold(0, |bits, &(first_page, nr_pages)| {
            bits | ((1 << nr_pages) - 1) << first_page
        })
    }

    /// The same pages as before, in the fewest possible ranges, in the order of their addresses.
    #[test]
    fn any_ranges_are_merged_right() -> Result {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) as usize % below as usize
        };

        for _ in 0..200 {
            let mut array = KVec::new();
            for _ in 0..next(9) {
                array.push((next(48), next(8)), GFP_KERNEL)?;
            }
            let merged = merged(&array)?;
            let (all, mut end) = (bits(&array), 0);

            assert_eq!(bits(&merged), all);
            // A range begins where a page is set and the one before it is not.
            assert_eq!(merged.len(), (all & !(all << 1)).count_ones() as usize);
            for &(first_page, nr_pages) in &merged {
                assert!(end == 0 || end < first_page);
                end = first_page + nr_pages;
            }
        }
        Ok(())
    }

    #[test]
    fn no_range_is_inserted_without_room() -> Result {
        let mut ranges = KVec::with_capacity(1, GFP_KERNEL)?;
        let range = page_range(0, 1)?.ok_or(EINVAL)?;

        while ranges.len() < ranges.capacity() {
            insert_sorted(&mut ranges, range)?;
        }
        assert_eq!(insert_sorted(&mut ranges, range), Err(EINVAL));
        assert_eq!(ranges.len(), ranges.capacity());
        Ok(())
    }

    #[test]
    fn flags_stand_for_modes() {
        assert!(lock_mode(0) == Ok(LockMode::Resident));
        assert!(lock_mode(uapi::MLOCK_RS_LOCK_ONFAULT) == Ok(LockMode::OnFault));
        for bit in 0..u32::BITS {
            let flag = 1 << bit;
            match flag {
                uapi::MLOCK_RS_LOCK_ONFAULT => (),
                uapi::MLOCK_RS_LOCK_YIELD | uapi::MLOCK_RS_LOCK_INTERRUPTIBLE => {
                    assert!(lock_mode(flag) == Ok(LockMode::Resident));
                    let both = flag | uapi::MLOCK_RS_LOCK_ONFAULT;
                    assert!(lock_mode(both) == Ok(LockMode::OnFault));
                }
                _ => {
                    assert!(lock_mode(flag) == Err(EINVAL));
                    assert!(lock_mode(flag | uapi::MLOCK_RS_LOCK_ONFAULT) == Err(EINVAL));
                }
            }
        }
    }

    #[test]
    fn flags_and_numbers_stand_for_a_manner() -> Result {
        const YIELD: u32 = uapi::MLOCK_RS_LOCK_YIELD;
        let plain = Manner::of(0, 0, 0)?;
        assert!(plain.threads.is_none() && plain.slice.is_none());
        assert!(plain.signals == Signals::Fatal);
        assert!(Manner::of(uapi::MLOCK_RS_LOCK_INTERRUPTIBLE, 0, 0)?.signals == Signals::Any);

        let most = uapi::MLOCK_RS_MAX_WORKERS;
        assert_eq!(Manner::of(0, 1, 0)?.threads, Some(1));
        assert_eq!(Manner::of(0, most, 0)?.threads, Some(most as usize));
        assert!(Manner::of(0, most + 1, 0).is_err());
        assert!(Manner::of(0, u32::MAX, 0).is_err());

        let slice = |micros| Manner::of(YIELD, 1, micros).map(|manner| manner.slice);
        let longest = uapi::MLOCK_RS_MAX_SLICE_US;
        assert!(slice(0)? == slice(uapi::MLOCK_RS_DEFAULT_SLICE_US)?);
        assert!(slice(1)? == Some(Delta::from_micros(1)));
        assert!(slice(longest)? == Some(Delta::from_micros(longest.into())));
        assert!(slice(longest + 1).is_err());
        assert!(Manner::of(0, 1, 1).is_err());
        Ok(())
    }

    #[test]
    fn requests_say_what_to_do_with_which_pages() -> Result {
        let lock = Request::lock(&mlock_rs_lock {
            addr: PAGE_SIZE as u64,
            len: PAGE_SIZE as u64,
            flags: uapi::MLOCK_RS_LOCK_ONFAULT,
            ..Default::default()
        })?;
        assert!(lock.mode() == LockMode::OnFault);
        assert_eq!(lock.ranges().len(), 1);
        assert!(lock
            .ranges()
            .iter()
            .all(|range| range.start() == PAGE_SIZE && range.pages() == 1));

        let unlock = Request::unlock(&mlock_rs_unlock::default())?;
        assert!(unlock.mode() == LockMode::Unlocked);
        assert_eq!(unlock.ranges().len(), 0);
        Ok(())
    }

    #[test]
    fn what_must_be_zero_is_refused() {
        let refused = |request: Result<Request>| request.err() == Some(EINVAL);

        assert!(refused(Request::lock(&mlock_rs_lock {
            __reserved: 1,
            ..Default::default()
        })));
        assert!(refused(Request::unlock(&mlock_rs_unlock {
            __reserved: 1,
            ..Default::default()
        })));
        assert!(refused(Request::unlock(&mlock_rs_unlock {
            flags: uapi::MLOCK_RS_LOCK_ONFAULT,
            ..Default::default()
        })));
        assert!(refused(Request::unlockv(&mlock_rs_unlockv {
            flags: uapi::MLOCK_RS_LOCK_ONFAULT,
            ..Default::default()
        })));
    }

    /// The array is not looked at: nothing is mapped at its address.
    #[test]
    fn too_many_ranges_are_refused() -> Result {
        let lockv = |nr_ranges| {
            Request::lockv(&mlock_rs_lockv {
                nr_ranges,
                ..Default::default()
            })
        };

        assert_eq!(lockv(uapi::MLOCK_RS_MAX_RANGES + 1).err(), Some(EINVAL));
        assert_eq!(lockv(u32::MAX).err(), Some(EINVAL));
        assert_eq!(lockv(0)?.ranges().len(), 0);
        Ok(())
    }
}
