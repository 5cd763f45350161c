// SPDX-License-Identifier: GPL-2.0

//! Ranges of whole pages in the caller's address space, and the rounding rules of mlock(2).

use kernel::{
    bindings,
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A range of pages that is not empty.
///
/// # Invariants
///
/// `start` and `end` are multiples of the page size, and `start < end`.
#[derive(Clone, Copy)]
pub(crate) struct PageRange {
    start: usize,
    end: usize,
}

impl PageRange {
    /// The pages that `len` bytes from `addr` on touch, or `None` if `len` is 0 and `addr` is at
    /// the start of a page. As in mlock(2), `len` 0 inside a page stands for that page.
    ///
    /// # Errors
    ///
    /// EINVAL: the end, rounded up to a page, is not an address.
    pub(crate) fn covering(addr: usize, len: usize) -> Result<Option<Self>> {
        let start = addr & PAGE_MASK;
        let end = addr
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(EINVAL)?;

        // INVARIANT: `start` was rounded down and `end` up to a multiple of the page size.
        Ok((start < end).then_some(Self { start, end }))
    }

    /// The first address.
    pub(crate) fn start(self) -> usize {
        self.start
    }

    /// The address after the last one.
    pub(crate) fn end(self) -> usize {
        self.end
    }

    /// Both ends, as addresses at which a VMA can be split.
    pub(crate) fn ends(self) -> [PageAddr; 2] {
        // INVARIANT: By the invariants of the range.
        [PageAddr(self.start), PageAddr(self.end)]
    }

    /// Take `other` in, if it overlaps or touches this range and does not start before it. Returns
    /// whether it did.
    pub(crate) fn join(&mut self, other: Self) -> bool {
        if other.start < self.start || other.start > self.end {
            return false;
        }
        self.end = self.end.max(other.end);
        true
    }

    /// Length in bytes.
    pub(crate) fn len(self) -> usize {
        // Cannot wrap: `start < end`.
        self.end.wrapping_sub(self.start)
    }

    /// Length in pages.
    pub(crate) fn pages(self) -> usize {
        pages(self.len())
    }
}

/// The address of a page.
///
/// # Invariants
///
/// A multiple of the page size.
#[derive(Clone, Copy)]
pub(crate) struct PageAddr(usize);

impl PageAddr {
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

/// How many whole pages `bytes` are.
pub(crate) fn pages(bytes: usize) -> usize {
    bytes >> PAGE_SHIFT
}

/// `addr` without the tag that hardware ignores: `untagged_addr()`.
pub(crate) fn untagged_addr(addr: usize) -> usize {
    // SAFETY: Takes any value. Looks at nothing but the current task's address space.
    unsafe { bindings::untagged_addr(addr) }
}
