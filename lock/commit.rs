// SPDX-License-Identifier: GPL-2.0

//! The commit: the VMA edit of a plan, all of it or nothing.
//!
//! Lock state: the mmap lock is held for writing. Everything that can fail (the splits at both ends
//! of each range) comes before the first lock flag changes, so that there is never a flag to put
//! back.

use super::{
    plan::Plan,
    Failure, //
};
use crate::mm::{
    LockMode,
    MmapLocked,
    MmapWriteGuard,
    PageAddr,
    PageRange, //
};
use kernel::{
    prelude::*,
    warn_on, //
};

/// The addresses at which VMAs were split, in the order of the splits. Its memory is there before
/// the mmap lock is taken.
pub(super) struct Splits(KVec<PageAddr>);

impl Splits {
    /// Room for the splits that `ranges` may need.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn room_for(ranges: &[PageRange]) -> Result<Self> {
        let most = ranges.len().saturating_mul(2);
        Ok(Self(KVec::with_capacity(most, GFP_KERNEL)?))
    }

    fn split(
        &mut self,
        guard: &mut MmapWriteGuard<'_>,
        addr: PageAddr,
        mode: LockMode,
    ) -> Result<(), Failure> {
        let split = guard
            .split(addr, mode)
            .map_err(|error| Failure::at(addr.get(), error))?;
        if split {
            // Cannot fail: there is room for all ends of all ranges.
            warn_on!(self.0.push_within_capacity(addr).is_err());
        }
        Ok(())
    }

    fn undo(&self, guard: &mut MmapWriteGuard<'_>) {
        for &addr in self.0.iter().rev() {
            guard.unsplit(addr);
        }
    }
}

/// Carry out `plan` and return by how many pages VmLck changed.
///
/// # Errors
///
/// ENOMEM, or what the `may_split` of a VMA says: a VMA could not be split at the address. No lock
/// flag is changed, and the VMAs that were already split are merged again, if the kernel can.
pub(super) fn commit(
    guard: &mut MmapWriteGuard<'_>,
    plan: &Plan<'_>,
    splits: Splits,
) -> Result<usize, Failure> {
    let before = guard.locked_pages();
    if plan.is_within_one_vma() {
        commit_one(guard, plan)?;
    } else {
        commit_many(guard, plan, splits)?;
    }
    Ok(guard.locked_pages().abs_diff(before))
}

/// One VMA is changed by one call, which fails before it changes the flags. Left to itself it may
/// move a boundary to a neighbour where a split would need a VMA more.
fn commit_one(guard: &mut MmapWriteGuard<'_>, plan: &Plan<'_>) -> Result<(), Failure> {
    for &range in plan.ranges() {
        let [start, end] = range.ends();
        let splits_start = guard
            .find_vma(start.get())
            .is_some_and(|vma| vma.start() < start.get());

        if let Err(error) = guard.set_lock_mode(range, plan.mode()) {
            if !splits_start {
                return Err(Failure::at(end.get(), error));
            }
            guard.unsplit(start);
            return Err(Failure::at(start.get(), error));
        }
    }
    Ok(())
}

fn commit_many(
    guard: &mut MmapWriteGuard<'_>,
    plan: &Plan<'_>,
    mut splits: Splits,
) -> Result<(), Failure> {
    let mode = plan.mode();

    for end in plan.ranges().iter().flat_map(|range| range.ends()) {
        if let Err(failure) = splits.split(guard, end, mode) {
            splits.undo(guard);
            return Err(failure);
        }
    }
    for &range in plan.ranges() {
        // Cannot fail: nothing is left to split, and the plan has seen that there is no hole.
        let set = guard.set_lock_mode(range, mode);
        warn_on!(set.is_err());
        set.map_err(|error| Failure::at(range.start(), error))?;
    }
    Ok(())
}
