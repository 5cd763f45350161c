// SPDX-License-Identifier: GPL-2.0

//! The commit: the VMA edit of a plan, all of it or nothing.
//!
//! Lock state: the mmap lock is held for writing. Everything that can fail (the splits at both ends
//! of the range) comes before the first lock flag changes, so that there is never a flag to put
//! back.

use super::{
    plan::Plan,
    Failure, //
};
use crate::mm::MmapWriteGuard;
use kernel::{
    prelude::*,
    warn_on, //
};

/// Carry out `plan` and return by how many pages VmLck grew.
///
/// # Errors
///
/// ENOMEM, or what the `may_split` of a VMA says: a VMA could not be split at the address. No lock
/// flag is changed, and a VMA that was already split is merged again, if memory permits.
pub(super) fn commit(guard: &mut MmapWriteGuard<'_>, plan: &Plan) -> Result<usize, Failure> {
    let range = plan.range();
    let before = guard.locked_pages();

    let split_start = guard
        .split(range.start(), plan.mode())
        .map_err(|error| Failure::at(range.start(), error))?;
    if let Err(error) = guard.split(range.end(), plan.mode()) {
        if split_start {
            guard.unsplit(range.start());
        }
        return Err(Failure::at(range.end(), error));
    }

    // Cannot fail: nothing is left to split, and the plan has seen that there is no hole.
    let set = guard.set_lock_mode(range, plan.mode());
    warn_on!(set.is_err());
    set?;

    Ok(guard.locked_pages().saturating_sub(before))
}
