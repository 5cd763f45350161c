// SPDX-License-Identifier: GPL-2.0

//! A range of addresses, as a caller has it and as the kernel rounds it.

use crate::uapi;
use std::mem::size_of_val;

/// The size of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Some of the caller's memory. It borrows nothing: a range of memory that is no longer there is
/// an error of the call, as is one that never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    addr: u64,
    len: u64,
}

impl Range {
    /// `len` bytes from `addr`.
    pub const fn new(addr: usize, len: usize) -> Self {
        Self {
            addr: addr as u64,
            len: len as u64,
        }
    }

    /// The memory of a value or a slice.
    pub fn of<T: ?Sized>(memory: &T) -> Self {
        Self::new(
            std::ptr::from_ref(memory).cast::<()>().addr(),
            size_of_val(memory),
        )
    }

    /// The first address.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the pages have that it touches.
    pub fn page_bytes(&self) -> u64 {
        let page = page_size() as u64;
        let Some(end) = self.addr.checked_add(self.len) else {
            return u64::MAX;
        };
        end.checked_next_multiple_of(page)
            .map_or(u64::MAX, |end| end - self.addr / page * page)
    }
}

impl From<Range> for uapi::mlock_rs_range {
    fn from(range: Range) -> Self {
        Self {
            addr: range.addr,
            len: range.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_whole_pages() {
        let page = page_size();
        for (addr, len, pages) in [
            (0, 0, 0),
            (page, 1, 1),
            (page - 1, 1, 1),
            (page - 1, 2, 2),
            (page, page, 1),
            (page + 1, page, 2),
        ] {
            let bytes = Range::new(addr, len).page_bytes();
            assert_eq!(bytes, (pages * page) as u64, "{len} bytes at {addr}");
        }
    }

    #[test]
    fn a_range_that_wraps_touches_more_than_there_is() {
        assert_eq!(Range::new(usize::MAX, 2).page_bytes(), u64::MAX);
        assert_eq!(Range::new(1, usize::MAX - 1).page_bytes(), u64::MAX);
    }

    #[test]
    fn a_slice_is_as_long_as_its_elements() {
        let slice = [0u32; 5];
        let range = Range::of(&slice[1..]);
        assert_eq!(range.len(), 16);
        assert_eq!(range.addr(), slice.as_ptr().addr() as u64 + 4);
    }
}
