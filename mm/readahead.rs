// SPDX-License-Identifier: GPL-2.0

//! Read-ahead: start the I/O of the files in a range before any lock is taken.
//!
//! Lock state: none on entry and exit. Looks a VMA up under its own lock, which is given up before
//! any I/O; the mmap lock is not taken. It promises nothing, and nothing relies on it: what it
//! does not read, a fault reads.
//!
//! No more than so much is on its way at a time. A device takes only so many requests, and who has
//! one too many sleeps until another one has been answered, whatever signal arrives
//! (`blk_mq_get_tag()`). To wait for a folio can be ended. A file in thousands of pieces, a very
//! slow device, or many calls at once may have more requests all the same.
//!
//! It reads into large folios, as read-ahead does for who reads a file from its beginning to its
//! end: they take less to allocate, to read and to map than single pages, which is what
//! `POSIX_FADV_WILLNEED` reads into.

use super::{
    fault::{
        resched_if_due,
        Signals, //
    },
    guard::CallerMm,
    page_cache::{
        is_read_into,
        Folios, //
    },
    vma::Vma,
    vma_iterator::walk_from,
    PageRange, //
};
use kernel::{
    bindings,
    fs::file::LocalFile,
    page::{
        Page,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        rcu, //
    }, //
};

/// Most pages that are submitted between two looks for a signal, and the largest folio. A power of
/// two.
///
/// One that most disks read in one go: what is larger is cut in two, and was measured to be slower,
/// although it can be mapped as a huge page; what is smaller takes more requests.
const WINDOW: usize = 256;

/// So many windows are on their way at a time. With a request for each, what a SATA disk takes, half
/// of that with a scheduler; far more than keeps a device busy.
const ON_THE_WAY: usize = 32;

/// So many VMAs are looked at under one RCU read lock.
const VMAS_AT_ONCE: usize = 1024;

/// Pages of a file.
struct FilePart {
    file: ARef<LocalFile>,
    next: usize,
    end: usize,
}

/// Start reading what the VMAs of `ranges`, in the order of their addresses, map of files and what
/// is not in the page cache yet. Ends early if one of `signals` arrives.
pub(crate) fn read_ahead(mm: &CallerMm<'_>, ranges: &[PageRange], signals: Signals) {
    // There is nothing to read up to here: small ranges often lie in one VMA.
    let mut nothing_before = 0usize;
    let mut reader = None;

    for range in ranges {
        let mut addr = range.start().max(nothing_before);
        while addr < range.end() {
            match anonymous_until(mm, addr, range.end()) {
                Some(until) if until > addr => {
                    nothing_before = until;
                    addr = until;
                    continue;
                }
                Some(_) => {}
                None => return,
            }
            let Some(vma) = mm.mm().lock_vma_under_rcu(addr) else {
                // A VMA that is being changed.
                return;
            };
            let end = vma.end();
            let part = {
                // SAFETY: The VMA is locked for reading as long as `vma` lives.
                let vma = unsafe { Vma::from_raw(vma.as_ptr()) };
                file_part(&vma, addr, end.min(range.end()))
            };
            drop(vma);

            if let Some(part) = part {
                let reader = match &mut reader {
                    Some(reader) => reader,
                    none => match Reader::new(signals) {
                        Ok(new) => none.insert(new),
                        // Read-ahead is no reason to fail.
                        Err(_) => return,
                    },
                };
                if !reader.read(part) {
                    return;
                }
            } else {
                nothing_before = end;
            }
            addr = end;
        }
    }
}

/// An address up to which there is nothing but anonymous memory, from `addr` on: where a VMA of a
/// file begins, or one that is not before `end`. `None` if there is a hole before it.
///
/// Takes less than to lock VMAs one by one. Ends early after many of them.
fn anonymous_until(mm: &CallerMm<'_>, addr: usize, end: usize) -> Option<usize> {
    let _guard = rcu::read_lock();
    let mut state = walk_from(mm, addr);
    let mut until = addr;
    for _ in 0..VMAS_AT_ONCE {
        if until >= end {
            break;
        }
        // SAFETY: The state is one that has not begun, or that the last call has left. The tree may
        // be read under RCU, whose read lock is held since then.
        let vma = unsafe { bindings::mas_find(&mut state, end.wrapping_sub(1)) };
        if vma.is_null() || state.index > until {
            return None;
        }
        let vma = vma.cast::<bindings::vm_area_struct>();
        // SAFETY: The memory of a VMA is not used for anything but VMAs before the RCU read lock is
        // released. Which file it is does not matter here, so that it may change at any time.
        let file = unsafe { (&raw const (*vma).vm_file).read_volatile() };
        if !file.is_null() {
            break;
        }
        until = state.last.saturating_add(1);
    }
    Some(until)
}

/// What the addresses from `addr` to `end` in `vma` map of a file that is read ahead and is not
/// cached as a whole.
fn file_part(vma: &Vma<'_>, addr: usize, end: usize) -> Option<FilePart> {
    vma.fault_access()?;
    let file = vma.file()?;

    // SAFETY: A file has a mapping and a backing device as long as it is open. The values may
    // change at any time; they only decide how much to read ahead.
    let (readable, cached, size, ra_pages, io_pages) = unsafe {
        let mapping = (*file.as_ptr()).f_mapping;
        let inode = (*mapping).host;
        let bdi = (*(*inode).i_sb).s_bdi;
        (
            is_read_into(mapping),
            (&raw const (*mapping).nrpages).read_volatile(),
            (&raw const (*inode).i_size).read_volatile(),
            (&raw const (*file.as_ptr()).__bindgen_anon_3.f_ra.ra_pages).read_volatile(),
            (&raw const (*bdi).io_pages).read_volatile(),
        )
    };
    let size = usize::try_from(size).ok()?.div_ceil(PAGE_SIZE);
    // Where there is no device, there are neither `ra_pages` nor `io_pages`. Who wants no
    // read-ahead has it here all the same: some of what reads a page for a fault cannot be killed.
    if !readable || (ra_pages == 0 && io_pages == 0) || cached >= size {
        return None;
    }

    let next = vma.file_page(addr);
    let pages = end.checked_sub(addr)? >> PAGE_SHIFT;
    Some(FilePart {
        file,
        next,
        end: next.checked_add(pages)?.min(size),
    })
}

/// Reads ahead.
struct Reader {
    /// `page_cache_async_ra()` goes on reading because somebody has got to a folio that is marked
    /// for that. It wants this folio, to take the mark off, but nobody has got anywhere yet.
    marked: Page,
    signals: Signals,
    /// The windows that may be on their way: a file, and the first and the last page of it. The
    /// next one takes the place of the oldest one.
    windows: [Option<(ARef<LocalFile>, usize, usize)>; ON_THE_WAY],
    submitted: usize,
}

impl Reader {
    /// # Errors
    ///
    /// ENOMEM.
    fn new(signals: Signals) -> Result<Self> {
        let marked = Page::alloc_page(GFP_KERNEL)?;
        Ok(Self {
            marked,
            signals,
            windows: [const { None }; ON_THE_WAY],
            submitted: 0,
        })
    }

    /// Wait until there is room for one more window on its way, and put down which one that is.
    /// May return early if a signal arrives.
    fn make_room(&mut self, file: &ARef<LocalFile>, first: usize, pages: usize) {
        let place = self.submitted % ON_THE_WAY;
        self.submitted = self.submitted.wrapping_add(1);
        let Some(window) = self.windows.get_mut(place) else {
            return;
        };
        let last = first.saturating_add(pages).saturating_sub(1);
        if let Some((file, first, last)) = window.replace((file.clone(), first, last)) {
            // SAFETY: The file is open, as there is a reference to it, and has a mapping.
            unsafe { Folios::wait_for((*file.as_ptr()).f_mapping, first, last, self.signals) };
        }
    }

    /// Start reading. Returns false if a signal is pending.
    fn read(&mut self, part: FilePart) -> bool {
        let mut next = part.next;
        while next < part.end {
            if self.signals.is_pending() {
                return false;
            }
            // Up to where the largest folios begin and end.
            let window = WINDOW
                .saturating_sub(next % WINDOW)
                .min(part.end.saturating_sub(next));
            let cached = part.cached(next, window);
            let first = next.saturating_add(cached);
            next = match window.saturating_sub(cached) {
                0 => first,
                pages => {
                    self.make_room(&part.file, first, pages);
                    if self.signals.is_pending() {
                        return false;
                    }
                    self.read_window(&part, first, pages)
                }
            };
            resched_if_due();
        }
        true
    }

    /// Start reading up to `pages` pages from `first` on, of which there are as many before the
    /// next multiple of [`WINDOW`]. Returns the page after them.
    fn read_window(&mut self, part: &FilePart, first: usize, pages: usize) -> usize {
        let file = part.file.as_ptr();
        // As if the window before had been read up to `first`, by somebody who wants the largest
        // folios. The state of the file is left as it is: it is that of its readers.
        let mut state = bindings::file_ra_state {
            start: first.wrapping_sub(pages),
            size: pages as u32,
            async_size: 0,
            ra_pages: pages as u32,
            order: WINDOW.ilog2() as u16,
            mmap_miss: 0,
            prev_pos: -1,
        };
        let mut control = bindings::readahead_control {
            file,
            // SAFETY: The file is open, as a reference to it is held.
            mapping: unsafe { (*file).f_mapping },
            ra: &mut state,
            _index: first,
            ..Default::default()
        };
        let folio = self.marked.as_ptr().cast::<bindings::folio>();
        // SAFETY: The file is open, and its mapping can be read, as was looked for. No lock is
        // held. The folio is a page of our own, which is one of order 0: only its flags and its
        // size are looked at.
        unsafe { bindings::page_cache_async_ra(&mut control, folio, pages) };

        // It may have read less, so that a folio ends where the window does.
        let end = state.start.wrapping_add(state.size as usize);
        match end.checked_sub(first) {
            Some(read @ 1..) if read <= pages => end,
            _ => first.saturating_add(pages),
        }
    }
}

impl FilePart {
    /// How many of the `pages` pages from `from` on are in the page cache before one that is not.
    fn cached(&self, from: usize, pages: usize) -> usize {
        let _guard = rcu::read_lock();
        // SAFETY: The file is open, as a reference to it is held, and so is the RCU read lock.
        let missing =
            unsafe { bindings::page_cache_next_miss((*self.file.as_ptr()).f_mapping, from, pages) };
        missing.saturating_sub(from).min(pages)
    }
}
