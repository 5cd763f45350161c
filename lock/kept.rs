// SPDX-License-Identifier: GPL-2.0

//! What a call with YIELD has locked, to tell after a gap whether it is still there.
//!
//! Lock state: made under the write lock, from what the commit has left; looked at under the read
//! lock. The 2008 attempt asked whether there was still a VMA, and could not tell a replaced one.

use super::Failure;
use crate::mm::{
    MmapWriteGuard,
    MmapYieldGuard,
    PageAddr,
    PageRange,
    Sequence,
    VmaIdentity,
    VmaIterator, //
};
use kernel::prelude::*;

/// A stretch of addresses and what they map.
struct Part {
    range: PageRange,
    what: VmaIdentity,
}

/// What was locked, in the order of the addresses.
pub(super) struct Kept {
    parts: KVVec<Part>,
    /// Where VMAs were changed after their pages had been populated.
    touched: Option<(usize, usize)>,
}

impl Kept {
    /// Room for `nr_vmas` VMAs. It is taken before anything is changed.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn room_for(nr_vmas: u32) -> Result<Self> {
        Ok(Self {
            parts: KVVec::with_capacity(nr_vmas as usize, GFP_KERNEL)?,
            touched: None,
        })
    }

    /// Take down what `ranges` map. The VMAs that there is room for are all that there are.
    pub(super) fn take_down(&mut self, guard: &MmapWriteGuard<'_>, ranges: &[PageRange]) {
        let mut vmas = VmaIterator::new(guard);
        for range in ranges {
            let mut rest = Some(*range);
            while let Some(now) = rest {
                let Some(vma) = vmas.find(now.start()) else {
                    break;
                };
                let end = PageAddr::of(vma.end().min(now.end()));
                let here = now.within(PageAddr::of(now.start()), end);
                rest = now.rest(end);

                let (Some(here), known) = (here, self.parts.last_mut()) else {
                    break;
                };
                if known.is_some_and(|last| {
                    last.range.end() == here.start()
                        && last.what.is_that_of(&vma)
                        && last.range.join(here)
                }) {
                    continue;
                }
                let part = Part {
                    range: here,
                    what: VmaIdentity::of(&vma),
                };
                // Cannot fail: a commit does not make more VMAs than the plan has seen.
                kernel::warn_on!(self.parts.push_within_capacity(part).is_err());
            }
        }
    }

    /// Look at all of it again, after others may have had the lock for writing since `since`. What
    /// lies before `upto` was handed out to be populated; of that, what changed is to be populated
    /// again.
    ///
    /// # Errors
    ///
    /// ESTALE: an address is not mapped as it was, or not locked any more.
    pub(super) fn look_again(
        &mut self,
        guard: &MmapYieldGuard<'_>,
        since: Sequence,
        upto: usize,
    ) -> Result<(), Failure> {
        let mut vmas = VmaIterator::new(guard);
        for part in &self.parts {
            let mut addr = part.range.start();
            while addr < part.range.end() {
                let Some(vma) = vmas.find(addr).filter(|vma| vma.start() <= addr) else {
                    return Err(Failure::at(addr, ESTALE));
                };
                let end = vma.end().min(part.range.end());
                if guard.may_have_changed(&vma, since) {
                    if !part.what.is_that_of(&vma) {
                        return Err(Failure::at(addr, ESTALE));
                    }
                    if addr < upto {
                        let (start, until) = self.touched.unwrap_or((addr, end));
                        self.touched = Some((start.min(addr), until.max(end)));
                    }
                }
                addr = end;
            }
        }
        Ok(())
    }

    /// Where something is to be populated again first.
    pub(super) fn first_touched(&self) -> Option<usize> {
        self.touched.map(|(start, _)| start)
    }

    /// The stretch in which something is to be populated again, and which is then forgotten.
    pub(super) fn take_touched(&mut self) -> Option<(PageAddr, PageAddr)> {
        let (start, end) = self.touched.take()?;
        Some((PageAddr::of(start), PageAddr::of(end)))
    }
}
