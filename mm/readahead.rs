// SPDX-License-Identifier: GPL-2.0

//! Read-ahead: start the I/O of the files in a range before any lock is taken.
//!
//! Lock state: none on entry and exit. Looks a VMA up under its own lock, which is given up before
//! any I/O; the mmap lock is not taken. It promises nothing, and nothing relies on it: what it
//! does not read, a fault reads.

use super::{
    fault::fatal_signal_pending,
    guard::CallerMm,
    vma::Vma,
    PageRange, //
};
use kernel::{
    bindings,
    fs::file::LocalFile,
    page::PAGE_SIZE,
    sync::aref::ARef, //
};

/// From `uapi/linux/fadvise.h`, which the bindings do not have.
const POSIX_FADV_WILLNEED: i32 = 3;

/// Most pages that are submitted between two looks for a fatal signal.
const CHUNK_PAGES: usize = 512;

/// A part of a file, in bytes.
struct FilePart {
    file: ARef<LocalFile>,
    offset: usize,
    len: usize,
    /// How much one call reads ahead at the most.
    chunk: usize,
}

/// Start reading what the VMAs of `ranges`, in the order of their addresses, map of files and what is not
/// in the page cache yet.
pub(crate) fn read_ahead(mm: &CallerMm<'_>, ranges: &[PageRange]) {
    // Anonymous memory up to here: small ranges often lie in one VMA.
    let mut nothing_before = 0usize;

    for range in ranges {
        let mut addr = range.start().max(nothing_before);
        while addr < range.end() {
            let Some(vma) = mm.mm().lock_vma_under_rcu(addr) else {
                // A hole, or a VMA that is being changed.
                return;
            };
            let end = vma.end();
            let part = {
                // SAFETY: The VMA is locked for reading as long as `vma` lives.
                let vma = unsafe { Vma::from_raw(vma.as_ptr()) };
                file_part(&vma, addr, end.min(range.end()))
            };
            drop(vma);

            match part {
                Some(part) if !part.read() => return,
                Some(_) => addr = end.min(range.end()),
                None => {
                    nothing_before = end;
                    addr = end;
                }
            }
        }
    }
}

/// What the addresses from `addr` to `end` in `vma` map of a file that is not cached as a whole.
fn file_part(vma: &Vma<'_>, addr: usize, end: usize) -> Option<FilePart> {
    vma.fault_access()?;
    let file = vma.file()?;

    // SAFETY: A file has a mapping and a backing device as long as it is open. The values may
    // change at any time; they only decide how much to read ahead.
    let (cached, size, ra_pages, io_pages) = unsafe {
        let mapping = (*file.as_ptr()).f_mapping;
        let inode = (*mapping).host;
        let bdi = (*(*inode).i_sb).s_bdi;
        (
            (&raw const (*mapping).nrpages).read_volatile(),
            (&raw const (*inode).i_size).read_volatile(),
            (&raw const (*file.as_ptr()).__bindgen_anon_3.f_ra.ra_pages).read_volatile(),
            (&raw const (*bdi).io_pages).read_volatile(),
        )
    };
    let size = usize::try_from(size).ok()?;
    if cached >= size.div_ceil(PAGE_SIZE) {
        return None;
    }

    let offset = vma.file_page(addr).checked_mul(PAGE_SIZE)?;
    let len = end.checked_sub(addr)?.min(size.saturating_sub(offset));
    // `force_page_cache_ra()` reads no more than this of what it is asked for.
    let chunk = io_pages
        .max(ra_pages as usize)
        .clamp(1, CHUNK_PAGES)
        .checked_mul(PAGE_SIZE)?;
    Some(FilePart {
        file,
        offset,
        len,
        chunk,
    })
}

impl FilePart {
    /// Start reading. Returns false if a fatal signal is pending.
    fn read(&self) -> bool {
        let end = self.offset.saturating_add(self.len);
        let mut offset = self.offset;

        while offset < end {
            if fatal_signal_pending() {
                return false;
            }
            let len = self.chunk.min(end.saturating_sub(offset));
            // SAFETY: The file is open, as a reference to it is held, and no lock is held. Whether
            // it can be read ahead does not matter, so neither does the result.
            unsafe {
                bindings::vfs_fadvise(
                    self.file.as_ptr(),
                    offset as i64,
                    len as i64,
                    POSIX_FADV_WILLNEED,
                )
            };
            offset = offset.saturating_add(len);
        }
        true
    }
}
