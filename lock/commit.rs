// SPDX-License-Identifier: GPL-2.0

//! The commit: the VMA edit of a plan, all of it or nothing.
//!
//! Lock state: the mmap lock is held for writing. What can fail are splits. A range that reaches
//! over several VMAs is split at both ends before any flag in it changes. One that is to be locked
//! and lies inside a VMA becomes a VMA of its own in one step, as in mlock(2): that the flags of a
//! whole VMA are put back cannot fail.

use super::{
    one_or_many::OneOrMany,
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

/// What has to be done with one range, as the plan found it, and what was done.
#[derive(Default)]
pub(super) struct Edit {
    /// Some VMA of the range does not have its lock flags yet.
    pub(super) change: bool,
    /// The first and the last VMA, if it is to be changed, reaches beyond the range.
    pub(super) split: [bool; 2],
    /// Whether it was split there.
    done: [bool; 2],
    /// The mode of the one VMA that reaches beyond both ends of the range, if one does.
    pub(super) inside: Option<LockMode>,
    /// Its flags were changed.
    changed: bool,
}

/// The edits of all ranges, in their order. Its memory is there before the mmap lock is taken.
pub(super) struct Edits(OneOrMany<Edit>);

impl Edits {
    /// Room for the edits of `ranges`.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn room_for(ranges: &[PageRange]) -> Result<Self> {
        Ok(Self(OneOrMany::with_capacity(ranges.len())?))
    }

    /// Take down what is to be done with the next range.
    pub(super) fn push(&mut self, edit: Edit) {
        // Cannot fail: there is room for all ranges.
        warn_on!(self.0.push_within_capacity(edit).is_err());
    }

    fn each<'e>(
        &'e mut self,
        ranges: &'e [PageRange],
    ) -> impl DoubleEndedIterator<Item = (&'e mut Edit, PageRange)> {
        let ranges = ranges.iter().copied();
        // As many as there are ranges, so that they belong together from behind too.
        self.0
            .iter_mut()
            .zip(ranges)
            .filter(|(edit, _)| edit.change)
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
    plan: &mut Plan<'_>,
) -> Result<usize, Failure> {
    let before = guard.locked_pages();
    let (mode, one) = (plan.mode(), plan.is_within_one_vma());
    let (edits, ranges) = plan.edits();
    if one {
        commit_one(guard, edits, ranges, mode)?;
    } else {
        commit_many(guard, edits, ranges, mode)?;
    }
    Ok(guard.locked_pages().abs_diff(before))
}

/// One VMA is changed by one call, which fails before it changes the flags. Left to itself it may
/// move a boundary to a neighbour where a split would need a VMA more.
fn commit_one(
    guard: &mut MmapWriteGuard<'_>,
    edits: &mut Edits,
    ranges: &[PageRange],
    mode: LockMode,
) -> Result<(), Failure> {
    for (edit, range) in edits.each(ranges) {
        if edit.inside.is_some() {
            return set_inside(guard, range, mode);
        }
        let [start, end] = range.ends();
        let [splits_start, _] = edit.split;
        let at = if splits_start { start } else { end };

        // There is one end to split, or none.
        guard
            .set_lock_mode(range, mode)
            .map_err(|error| Failure::at(at.get(), error))?;
    }
    Ok(())
}

fn commit_many(
    guard: &mut MmapWriteGuard<'_>,
    edits: &mut Edits,
    ranges: &[PageRange],
    mode: LockMode,
) -> Result<(), Failure> {
    if let Err(failure) = separate(guard, edits, ranges, mode) {
        undo(guard, edits, ranges);
        return Err(failure);
    }
    for (edit, range) in edits.each(ranges) {
        if edit.changed {
            continue;
        }
        // Cannot fail: nothing is left to split, and the plan has seen that there is no hole.
        let set = guard.set_lock_mode(range, mode);
        warn_on!(set.is_err());
        set.map_err(|error| Failure::at(range.start(), error))?;
    }
    Ok(())
}

/// Split wherever an end of a range is not one of a VMA that is to be changed, and lock what lies
/// inside one VMA at once, which takes fewer walks of the tree of VMAs.
///
/// Nothing is unlocked before all splits are done: reclaim does not ask for the mmap lock, and to
/// lock again what it has taken away would not bring it back.
fn separate(
    guard: &mut MmapWriteGuard<'_>,
    edits: &mut Edits,
    ranges: &[PageRange],
    mode: LockMode,
) -> Result<(), Failure> {
    for (edit, range) in edits.each(ranges) {
        if edit.inside.is_some() && mode != LockMode::Unlocked {
            set_inside(guard, range, mode)?;
            edit.changed = true;
            continue;
        }
        for ((end, wanted), done) in range.ends().into_iter().zip(edit.split).zip(&mut edit.done) {
            if wanted {
                *done = split_at(guard, end, mode)?;
            }
        }
    }
    Ok(())
}

/// Change a range that lies inside a VMA, or nothing.
fn set_inside(
    guard: &mut MmapWriteGuard<'_>,
    range: PageRange,
    mode: LockMode,
) -> Result<(), Failure> {
    guard.set_lock_mode(range, mode).map_err(|error| {
        let [start, end] = range.ends();
        // The start is split first.
        let at = match guard.vma_at(start.get()) {
            Some(vma) if vma.start() == start.get() => end,
            _ => start,
        };
        guard.unsplit(start);
        Failure::at(at.get(), error)
    })
}

fn split_at(
    guard: &mut MmapWriteGuard<'_>,
    addr: PageAddr,
    mode: LockMode,
) -> Result<bool, Failure> {
    guard
        .split(addr, mode)
        .map_err(|error| Failure::at(addr.get(), error))
}

/// Put back the flags that were changed, and merge what was split, in the opposite order.
fn undo(guard: &mut MmapWriteGuard<'_>, edits: &mut Edits, ranges: &[PageRange]) {
    for (edit, range) in edits.each(ranges).rev() {
        if let Some(mode) = edit.inside.filter(|_| edit.changed) {
            // Cannot fail: the range is a VMA of its own, and it does without being merged. Its
            // neighbours are what is left of the VMA that it was inside.
            let set = guard.set_lock_mode(range, mode);
            warn_on!(set.is_err());
        }
        for (end, done) in range.ends().into_iter().zip(edit.done).rev() {
            if done {
                guard.unsplit(end);
            }
        }
    }
}
