// SPDX-License-Identifier: GPL-2.0

//! Ranges of whole pages in the caller's address space, and the rounding rules of mlock(2).

use super::mlock;
use kernel::{
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

    /// What lies before the first multiple of `size`, a power of two, after the start, and what is
    /// left after that.
    pub(crate) fn chunk(self, size: usize) -> (Self, Option<Self>) {
        let boundary = self.start.checked_add(1).and_then(|next| {
            // A power of two that is not smaller than a page keeps the invariants.
            next.checked_next_multiple_of(size.max(PAGE_SIZE))
        });
        match boundary {
            Some(boundary) if boundary < self.end => (
                // INVARIANT: A multiple of the page size, between start and end.
                Self {
                    end: boundary,
                    ..self
                },
                Some(Self {
                    start: boundary,
                    ..self
                }),
            ),
            _ => (self, None),
        }
    }

    /// How many pieces that makes, if what is left is taken apart in the same way, and so on.
    pub(crate) fn nr_chunks(self, size: usize) -> usize {
        let nth = |addr: usize| addr / size.max(PAGE_SIZE);

        // The last page's address is in the last piece.
        nth(self.end.saturating_sub(PAGE_SIZE))
            .saturating_sub(nth(self.start))
            .saturating_add(1)
    }

    /// What of it lies between `start` and `end`, page addresses.
    pub(crate) fn within(self, start: PageAddr, end: PageAddr) -> Option<Self> {
        let (start, end) = (self.start.max(start.0), self.end.min(end.0));
        // INVARIANT: All of them are multiples of the page size.
        (start < end).then_some(Self { start, end })
    }

    /// What of it is left from `addr` on, which lies in it or at its end.
    pub(crate) fn rest(self, addr: PageAddr) -> Option<Self> {
        // INVARIANT: As above.
        self.within(addr, PageAddr(self.end))
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
    /// The page that `addr` is in.
    pub(crate) fn of(addr: usize) -> Self {
        // INVARIANT: Rounded down.
        Self(addr & PAGE_MASK)
    }

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
    unsafe { mlock::mlock_rs_untagged_addr(addr) }
}

#[kunit_tests(mlock_rs_range)]
mod tests {
    use super::*;

    /// The address of the last page.
    const LAST_PAGE: usize = PAGE_MASK;

    /// First page and number of pages, counted in pages.
    fn covered(addr: usize, len: usize) -> Result<Option<(usize, usize)>> {
        let range = PageRange::covering(addr, len)?;
        Ok(range.map(|range| (range.start() / PAGE_SIZE, range.pages())))
    }

    fn range(first_page: usize, nr_pages: usize) -> Result<PageRange> {
        PageRange::covering(first_page * PAGE_SIZE, nr_pages * PAGE_SIZE)?.ok_or(EINVAL)
    }

    #[test]
    fn chunks_are_as_many_as_can_be_taken() -> Result {
        const SIZE: usize = 4;

        // At the start of a chunk, at its end, and within; short, as long as one, and longer.
        for first in SIZE..3 * SIZE {
            for pages in 1..3 * SIZE {
                let all = range(first, pages)?;
                let (mut taken, mut rest) = (0, Some(all));

                while let Some(range) = rest {
                    let (chunk, next) = range.chunk(SIZE * PAGE_SIZE);

                    assert_eq!(chunk.start(), range.start());
                    assert!(chunk.pages() <= SIZE);
                    taken += 1;
                    rest = next;
                }
                assert_eq!(taken, all.nr_chunks(SIZE * PAGE_SIZE));
            }
        }
        Ok(())
    }

    #[test]
    fn covering_whole_pages_is_exact() -> Result {
        assert_eq!(covered(3 * PAGE_SIZE, PAGE_SIZE)?, Some((3, 1)));
        assert_eq!(covered(3 * PAGE_SIZE, 5 * PAGE_SIZE)?, Some((3, 5)));
        assert_eq!(covered(0, PAGE_SIZE)?, Some((0, 1)));
        Ok(())
    }

    #[test]
    fn covering_rounds_the_start_down() -> Result {
        assert_eq!(covered(3 * PAGE_SIZE + 1, PAGE_SIZE - 1)?, Some((3, 1)));
        assert_eq!(covered(4 * PAGE_SIZE - 1, 1)?, Some((3, 1)));
        Ok(())
    }

    #[test]
    fn covering_rounds_the_end_up() -> Result {
        assert_eq!(covered(3 * PAGE_SIZE, 1)?, Some((3, 1)));
        assert_eq!(covered(3 * PAGE_SIZE, PAGE_SIZE + 1)?, Some((3, 2)));
        assert_eq!(covered(4 * PAGE_SIZE - 1, 2)?, Some((3, 2)));
        assert_eq!(covered(4 * PAGE_SIZE - 1, PAGE_SIZE + 2)?, Some((3, 3)));
        Ok(())
    }

    #[test]
    fn covering_no_bytes_is_the_page_around_or_nothing() -> Result {
        assert_eq!(covered(3 * PAGE_SIZE, 0)?, None);
        assert_eq!(covered(0, 0)?, None);
        assert_eq!(covered(3 * PAGE_SIZE + 1, 0)?, Some((3, 1)));
        assert_eq!(covered(4 * PAGE_SIZE - 1, 0)?, Some((3, 1)));
        Ok(())
    }

    /// The page after the last one has no address, so that no range can end there.
    #[test]
    fn covering_ends_before_the_last_page() -> Result {
        let last = LAST_PAGE / PAGE_SIZE;

        assert_eq!(
            covered(LAST_PAGE - PAGE_SIZE, PAGE_SIZE)?,
            Some((last - 1, 1))
        );
        assert_eq!(covered(0, LAST_PAGE)?, Some((0, last)));
        assert_eq!(covered(LAST_PAGE, 0)?, None);
        assert_eq!(covered(LAST_PAGE - PAGE_SIZE, PAGE_SIZE + 1), Err(EINVAL));
        assert_eq!(covered(LAST_PAGE, 1), Err(EINVAL));
        assert_eq!(covered(LAST_PAGE + 1, 0), Err(EINVAL));
        assert_eq!(covered(0, LAST_PAGE + 1), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn covering_does_not_wrap_around() {
        assert_eq!(covered(PAGE_SIZE, usize::MAX), Err(EINVAL));
        assert_eq!(covered(usize::MAX, 1), Err(EINVAL));
        assert_eq!(covered(usize::MAX, usize::MAX), Err(EINVAL));
        assert_eq!(covered(LAST_PAGE, PAGE_SIZE), Err(EINVAL));
        assert_eq!(covered(LAST_PAGE, 2 * PAGE_SIZE), Err(EINVAL));
    }

    #[test]
    fn ends_are_the_first_address_and_the_one_after_the_last() -> Result {
        let range = range(3, 5)?;

        assert_eq!(range.start(), 3 * PAGE_SIZE);
        assert_eq!(range.end(), 8 * PAGE_SIZE);
        assert_eq!(
            range.ends().map(PageAddr::get),
            [range.start(), range.end()]
        );
        assert_eq!(range.len(), 5 * PAGE_SIZE);
        assert_eq!(range.pages(), 5);
        Ok(())
    }

    #[test]
    fn pages_are_whole() {
        assert_eq!(pages(0), 0);
        assert_eq!(pages(PAGE_SIZE - 1), 0);
        assert_eq!(pages(PAGE_SIZE), 1);
        assert_eq!(pages(2 * PAGE_SIZE + 1), 2);
    }

    /// What pages 3 to 7 become when they are to join the others.
    fn joined(first_page: usize, nr_pages: usize) -> Result<Option<(usize, usize)>> {
        let mut it = range(3, 5)?;
        let joined = it.join(range(first_page, nr_pages)?);
        let now = (it.start() / PAGE_SIZE, it.pages());
        if !joined && now != (3, 5) {
            return Err(EINVAL);
        }
        Ok(joined.then_some(now))
    }

    #[test]
    fn join_takes_in_what_overlaps() -> Result {
        assert_eq!(joined(7, 1)?, Some((3, 5)));
        assert_eq!(joined(7, 2)?, Some((3, 6)));
        assert_eq!(joined(3, 9)?, Some((3, 9)));
        Ok(())
    }

    #[test]
    fn join_takes_in_what_touches() -> Result {
        assert_eq!(joined(8, 1)?, Some((3, 6)));
        assert_eq!(joined(8, 7)?, Some((3, 12)));
        Ok(())
    }

    #[test]
    fn join_does_not_shrink() -> Result {
        assert_eq!(joined(3, 5)?, Some((3, 5)));
        assert_eq!(joined(3, 1)?, Some((3, 5)));
        assert_eq!(joined(4, 2)?, Some((3, 5)));
        Ok(())
    }

    #[test]
    fn join_leaves_what_is_apart_or_starts_before() -> Result {
        assert_eq!(joined(9, 1)?, None);
        assert_eq!(joined(100, 1)?, None);
        assert_eq!(joined(2, 1)?, None);
        assert_eq!(joined(2, 3)?, None);
        assert_eq!(joined(0, 100)?, None);
        Ok(())
    }
}
