// SPDX-License-Identifier: GPL-2.0

//! Memory for the demonstration, which has to do what safe Rust is spared: to replace a page that
//! another thread is about to lock. Nobody looks at what is in it.

use mlock_rs::{Range, page_size};
use rustix::{
    io::Errno,
    mm::{MapFlags, MprotectFlags, ProtFlags, mlock, mmap_anonymous, mprotect, munmap},
};
use std::ffi::c_void;

/// Anonymous pages, in many mappings, so that the kernel has something to mark.
pub(crate) struct Arena {
    start: *mut c_void,
    len: usize,
}

// SAFETY: memory belongs to the process, not to a thread.
unsafe impl Send for Arena {}
// SAFETY: the kernel sees to it that calls on the same pages come one after the other.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) fn new(pages: usize) -> Result<Self, Errno> {
        let len = pages * page_size();
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, flags) }?;
        let arena = Self { start, len };
        for page in (0..pages).step_by(4) {
            // SAFETY: two pages of the mapping, which nobody writes to.
            unsafe { mprotect(arena.at(page), 2 * page_size(), MprotectFlags::READ) }?;
        }
        Ok(arena)
    }

    fn at(&self, page: usize) -> *mut c_void {
        self.start.wrapping_byte_add(page * page_size())
    }

    pub(crate) fn range(&self) -> Range {
        Range::new(self.start.addr(), self.len)
    }

    pub(crate) fn page(&self, page: usize) -> Range {
        Range::new(self.at(page).addr(), page_size())
    }

    /// mlock(2), and nothing else.
    pub(crate) fn mlock(&self) -> Result<(), Errno> {
        // SAFETY: the mapping is there; locking does not change what is in it.
        unsafe { mlock(self.start, self.len) }
    }

    /// Put another page in the place of this one.
    pub(crate) fn replace(&self, page: usize) -> Result<(), Errno> {
        let (prot, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
        );
        // SAFETY: in the mapping, which nothing in Rust points into.
        unsafe { mmap_anonymous(self.at(page), page_size(), prot, flags) }.map(drop)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing points into it.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
