// SPDX-License-Identifier: GPL-2.0

//! The page cache: what is in it of a file, and the wait for what is being read.
//!
//! Lock state: a folio is never locked here, only waited for, and by a call that holds the mmap
//! lock for reading: `filemap_fault()` has the same order.

use super::{
    fault::{
        sleep_killable,
        Signals, //
    },
    vma::Vma,
    MmapLocked,
    MmapReadGuard, //
};
use kernel::bindings;

/// Folios that lie one after the other in the page cache, with a reference to each of them.
///
/// # Invariants
///
/// The batch owns the references.
pub(super) struct Folios(bindings::folio_batch);

impl Folios {
    /// Those from the page `*next` to the page `last` of the file, or the first of them. There is
    /// none, or `*next` is the page after them.
    ///
    /// # Safety
    ///
    /// `mapping` is valid.
    pub(super) unsafe fn contiguous(
        mapping: *mut bindings::address_space,
        next: &mut usize,
        last: usize,
    ) -> Self {
        let mut batch = bindings::folio_batch {
            // Nothing that was freed is waited for.
            percpu_pvec_drained: true,
            ..Default::default()
        };
        // SAFETY: By the contract of this function. Looks under RCU, and takes a reference to what
        // it finds; what is no folio (a place in the swap, DAX) ends it.
        unsafe { bindings::filemap_get_folios_contig(mapping, next, last, &mut batch) };
        // INVARIANT: As above.
        Self(batch)
    }

    fn iter(&self) -> impl Iterator<Item = *mut bindings::folio> + '_ {
        self.0.folios.iter().take(self.0.nr as usize).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.nr == 0
    }

    /// Whether all of them have been read, and nobody works on them.
    pub(super) fn are_ready(&self) -> bool {
        self.iter()
            // SAFETY: By the type invariants.
            .all(|folio| unsafe { flags(folio) } & (UPTODATE | LOCKED) == UPTODATE)
    }

    /// Wait until who works on each of them has done so, or until one of `signals` arrives. Returns
    /// whether there was anything to wait for.
    pub(super) fn wait(&self, signals: Signals) -> bool {
        let mut waited = false;
        for folio in self.iter() {
            // SAFETY: By the type invariants.
            let locked = || unsafe { flags(folio) } & LOCKED != 0;
            if !locked() {
                continue;
            }
            waited = true;
            match signals {
                // SAFETY: By the type invariants, so that the folio is not freed while it is waited
                // for. The calling thread may sleep.
                Signals::Fatal => unsafe {
                    bindings::folio_wait_bit_killable(folio, bindings::pageflags_PG_locked as i32);
                },
                // There is no such wait in the kernel that other signals end.
                Signals::Any => {
                    while locked() && !signals.is_pending() {
                        sleep_killable(LOOK_AGAIN_MICROS);
                    }
                }
            }
            if signals.is_pending() {
                break;
            }
        }
        waited
    }

    /// Wait for the pages from `next` to `last` of a file, as far as they are in the page cache one
    /// after the other, or until one of `signals` arrives.
    ///
    /// # Safety
    ///
    /// `mapping` is valid.
    pub(super) unsafe fn wait_for(
        mapping: *mut bindings::address_space,
        mut next: usize,
        last: usize,
        signals: Signals,
    ) {
        while next <= last && !signals.is_pending() {
            // SAFETY: By the contract of this function.
            let folios = unsafe { Self::contiguous(mapping, &mut next, last) };
            if folios.is_empty() {
                break;
            }
            folios.wait(signals);
        }
    }

    /// The first page of the first of them in its file, if it has not been read.
    fn first_if_unread(&self) -> Option<usize> {
        let folio = self.iter().next()?;
        // SAFETY: By the type invariants. The place in the file of a folio only changes when nobody
        // has a reference to it, or when it is no hurry to be right: what is found there is looked
        // at again.
        let (flags, index) = unsafe {
            (
                flags(folio),
                (&raw const (*folio)
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .__bindgen_anon_2
                    .index)
                    .read_volatile(),
            )
        };
        (flags & UPTODATE == 0).then_some(index)
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        if !self.is_empty() {
            // SAFETY: By the type invariants, and nobody uses them any more.
            unsafe { bindings::__folio_batch_release(&mut self.0) };
        }
    }
}

/// How long to sleep between two looks at a folio.
const LOOK_AGAIN_MICROS: u32 = 500;

const LOCKED: usize = 1 << bindings::pageflags_PG_locked;
const UPTODATE: usize = 1 << bindings::pageflags_PG_uptodate;

/// The flags of a folio, which others may change at any time.
///
/// # Safety
///
/// There is a reference to the folio.
unsafe fn flags(folio: *mut bindings::folio) -> usize {
    // SAFETY: By the contract of this function.
    unsafe { (&raw const (*folio).__bindgen_anon_1.__bindgen_anon_1.flags.f).read_volatile() }
}

/// Whether the file of `mapping` is read into the page cache. Devices, shared memory, hugetlb and
/// DAX are not.
///
/// # Safety
///
/// `mapping` is valid.
pub(super) unsafe fn is_read_into(mapping: *mut bindings::address_space) -> bool {
    // SAFETY: By the contract of this function. Every mapping has operations.
    unsafe {
        let ops = (*mapping).a_ops;
        (*ops).readahead.is_some() || (*ops).read_folio.is_some()
    }
}

/// A page of a file that is mapped somewhere.
struct FilePage {
    mapping: *mut bindings::address_space,
    page: usize,
}

impl FilePage {
    /// What `vma` maps at `addr`, if that is a file that is read into the page cache. Its mapping
    /// is valid as long as the VMA is locked.
    fn of(vma: &Vma<'_>, addr: usize) -> Option<Self> {
        let file = vma.file_raw()?;
        // SAFETY: The VMA is locked, so that it keeps its file, and an open file its mapping.
        let (mapping, readable) = unsafe {
            let mapping = (*file.as_ptr()).f_mapping;
            (mapping, is_read_into(mapping))
        };
        readable.then(|| Self {
            mapping,
            page: vma.file_page(addr),
        })
    }
}

impl MmapReadGuard<'_> {
    /// Wait until nobody works on the page of a file that is mapped at `addr`, or until a fatal
    /// signal arrives. Returns false at once if that is not what a fault there would wait for.
    ///
    /// Who has it locked is reading it, in most cases. It may also be removed from the file
    /// meanwhile, and be another one afterwards; a fault tells.
    pub(crate) fn wait_for_file_page(&self, addr: usize) -> bool {
        // A private page may have taken the place of the file's, and may be in the swap. The page
        // in the file is nothing to wait for then, for as long as that may take.
        let vma = self
            .vma_at(addr)
            .filter(|vma| !vma.may_have_anonymous_pages());
        let Some(FilePage { mapping, page }) = vma.and_then(|vma| FilePage::of(&vma, addr)) else {
            return false;
        };
        // SAFETY: The mmap lock is held, so the VMA is locked, and the mapping valid.
        let folios = unsafe { Folios::contiguous(mapping, &mut { page }, page) };
        folios.wait(Signals::Fatal)
    }

    /// Have the page cache forget the large folio that is mapped at `addr` and that could not be
    /// read, so that the next fault reads its pages one by one: most of them may be good. Returns
    /// false if there is none.
    pub(crate) fn forget_unread(&self, addr: usize) -> bool {
        let vma = self.vma_at(addr);
        let Some(FilePage { mapping, page }) = vma.and_then(|vma| FilePage::of(&vma, addr)) else {
            return false;
        };
        let mut next = page;
        // SAFETY: The mmap lock is held, so the VMA is locked, and the mapping valid.
        let folios = unsafe { Folios::contiguous(mapping, &mut next, page) };
        let Some(first) = folios.first_if_unread() else {
            return false;
        };
        // With the reference it would stay.
        drop(folios);
        let last = next.saturating_sub(1);
        // SAFETY: As above. What is dirty, mapped or in use stays, and nothing
        // is waited for.
        first < last && unsafe { bindings::invalidate_mapping_pages(mapping, first, last) } > 0
    }
}
