// SPDX-License-Identifier: GPL-2.0

//! Fault-in under per-VMA locks: what a worker can do while the caller holds the mmap lock.
//!
//! Lock state: none on entry and exit. Takes the lock of one VMA at a time, for reading, and
//! neither takes nor needs the mmap lock. What would need it, or would wait for I/O, is left to the
//! caller.

use super::{
    fault::{
        fatal_signal_pending,
        fault_error,
        resched_if_due, //
    },
    page_cache::Folios,
    vma::{
        FaultAccess,
        Vma, //
    },
    CallerMm,
    MmapReadGuard, //
};
use core::{
    mem::{
        self,
        MaybeUninit, //
    },
    ptr, //
};
use kernel::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    }, //
};

/// How many pages are looked at in one go.
const BATCH: usize = 64;

/// How far a worker came. The address is that of the first page that it did not see resident.
pub(crate) enum Helped {
    /// The end was reached.
    All,
    /// The page is left to the caller, also if it cannot be faulted in: only under the mmap lock
    /// that is certain.
    Left(usize),
    /// A fatal signal is pending, or the rest is not wanted any more.
    Stopped(usize),
}

impl CallerMm<'_> {
    /// Fault in the pages from `addr` up to `end`, page addresses, as long as they are `wanted`.
    pub(crate) fn fault_in_vmas(
        &self,
        mut addr: usize,
        end: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Helped {
        let mut large = true;
        while addr < end {
            let Some(guard) = self.mm().lock_vma_under_rcu(addr) else {
                return Helped::Left(addr);
            };
            // SAFETY: The VMA is locked for reading as long as the guard lives.
            let vma = unsafe { Vma::from_raw(guard.as_ptr()) };
            let until = end.min(vma.end());

            if vma.is_never_populated() || vma.is_lock_on_fault() {
                addr = until;
                continue;
            }
            let Some(access) = vma.fault_access() else {
                return Helped::Left(addr);
            };
            // While the caller has given the mmap lock up, this may be another VMA than it was.
            let changed = !vma.is_locked() && !vma.is_hugetlb();
            if changed || vma.needs_the_caller() || !is_without_io(&vma, addr, until) {
                return Helped::Left(addr);
            }

            // A writer that wants this VMA waits with the mmap lock held, so not for long.
            let until = until.min(addr.saturating_add(BATCH * PAGE_SIZE));
            let mut run = Run::begin(addr, access, large);
            while run.next < until {
                if fatal_signal_pending() || !wanted(run.next) {
                    return Helped::Stopped(run.seen(until).0);
                }
                // Most pages of fresh memory are not there, and it costs to look.
                if run.look {
                    let (seen, all) = run.seen(until);
                    if !all {
                        return Helped::Left(seen);
                    }
                    continue;
                }
                let fault = fault_in_locked(&vma, run.next, access);
                if fault & GAVE_UP != 0 {
                    // The lock of the VMA was released.
                    mem::forget(guard);
                    return Helped::Left(run.seen(until).0);
                }
                if fault_error(fault).is_some() {
                    return Helped::Left(run.seen(until).0);
                }
                run.faulted();
                resched_if_due();
            }
            let (seen, all) = run.seen(until);
            if !all {
                return Helped::Left(seen);
            }
            large = run.large;
            addr = until;
        }
        Helped::All
    }
}

/// The fault handler has released the lock of the VMA.
const GAVE_UP: u32 =
    bindings::vm_fault_reason_VM_FAULT_RETRY | bindings::vm_fault_reason_VM_FAULT_COMPLETED;

/// A stretch of pages for which faults were answered. That is not to say that they are resident: a
/// fault that lost a race, say against a page that another thread has mapped within the same large
/// folio, answers 0 as well. So they are looked for before they count.
struct Run {
    /// Everything before is resident.
    start: usize,
    /// The next page to be faulted in.
    next: usize,
    /// Whether to look before the next fault, and beyond what was faulted in.
    look: bool,
    /// Whether that is so after each fault: until one has brought no more than its own page.
    large: bool,
    access: FaultAccess,
}

impl Run {
    fn begin(addr: usize, access: FaultAccess, large: bool) -> Self {
        Self {
            start: addr,
            next: addr,
            look: large,
            large,
            access,
        }
    }

    fn faulted(&mut self) {
        self.look = self.large;
        self.next = self.next.saturating_add(PAGE_SIZE);
    }

    /// Look how far pages are resident, up to `end` and at least as far as they were faulted in.
    /// Returns that, and whether it is all that was faulted in.
    fn seen(&mut self, end: usize) -> (usize, bool) {
        let faulted = self.next;
        // Beyond that only where there is reason to expect something.
        let end = match self.look {
            true => end,
            false => faulted,
        };
        let seen = resident_until(self.start, end, self.access);
        let all = seen >= faulted;
        if self.look && faulted > self.start {
            self.large = seen > faulted;
        }
        self.start = seen;
        self.next = seen;
        self.look = false;
        (seen, all)
    }
}

impl MmapReadGuard<'_> {
    /// The address of the first page from `addr` on, up to `end`, page addresses within one VMA,
    /// that is not resident with the rights that are needed. Cheaper than to ask for a fault, where
    /// there is something resident. May stop at a page that is.
    pub(crate) fn resident_until(&self, addr: usize, end: usize, access: FaultAccess) -> usize {
        resident_until(addr, end, access)
    }
}

/// Have the kernel fault in the page at `addr` of `vma`, whose own lock is held.
///
/// After VM_FAULT_RETRY and VM_FAULT_COMPLETED that lock is not held any more.
fn fault_in_locked(vma: &Vma<'_>, addr: usize, access: FaultAccess) -> u32 {
    // The rights of the thread do not matter: protection keys were looked for, and a worker has
    // none of its own.
    let flags = bindings::fault_flag_FAULT_FLAG_VMA_LOCK
        | bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY
        | bindings::fault_flag_FAULT_FLAG_KILLABLE
        | bindings::fault_flag_FAULT_FLAG_REMOTE
        | access.fault_flags();

    // SAFETY: The VMA is locked for reading and contains the address.
    unsafe { bindings::handle_mm_fault(vma.as_raw(), addr, flags, ptr::null_mut()) }
}

/// The address of the first page from `addr` on, up to `end`, that is not in the page table with
/// the rights that are needed.
fn resident_until(mut addr: usize, end: usize, access: FaultAccess) -> usize {
    let flags = match access {
        FaultAccess::Write => bindings::FOLL_WRITE,
        FaultAccess::ForcedRead => 0,
    };
    let mut pages = [const { MaybeUninit::<*mut bindings::page>::uninit() }; BATCH];
    let pages = pages.as_mut_ptr().cast::<*mut bindings::page>();

    while addr < end {
        let asked = (end.saturating_sub(addr) >> PAGE_SHIFT).min(BATCH);
        // SAFETY: There is room for as many pages. Walks the page table without any lock.
        let found = unsafe { bindings::get_user_pages_fast_only(addr, asked as i32, flags, pages) };
        let found = usize::try_from(found).unwrap_or(0).min(asked);
        if found > 0 {
            let taken = bindings::release_pages_arg { pages };
            // SAFETY: The references to as many pages were just taken.
            unsafe { bindings::release_pages(taken, found as i32) };
        }
        addr = addr.saturating_add(found.saturating_mul(PAGE_SIZE));
        if found < asked {
            break;
        }
    }
    addr
}

/// Whether faulting in the pages from `addr` to `end` of `vma` does not have to wait for a file.
///
/// A hint: the page cache may change at any time.
fn is_without_io(vma: &Vma<'_>, addr: usize, end: usize) -> bool {
    let Some(file) = vma.file_raw() else {
        return true;
    };
    if vma.is_hugetlb() {
        return true;
    }
    let first = vma.file_page(addr);
    let last = first.saturating_add((end.saturating_sub(addr) >> PAGE_SHIFT).saturating_sub(1));
    // SAFETY: The VMA is locked, so that its file and the file's mapping stay.
    let (mapping, magic) = unsafe {
        let mapping = (*file.as_ptr()).f_mapping;
        (mapping, (*(*(*mapping).host).i_sb).s_magic)
    };
    if magic as u32 == bindings::TMPFS_MAGIC {
        // SAFETY: As above.
        unsafe { has_nothing_swapped(mapping, first, last) }
    } else {
        // SAFETY: As above.
        unsafe { is_cached(mapping, first, last) }
    }
}

/// Whether none of the pages of shared memory is in the swap. What was never there needs no I/O.
///
/// # Safety
///
/// `mapping` is valid.
unsafe fn has_nothing_swapped(
    mapping: *mut bindings::address_space,
    first: usize,
    last: usize,
) -> bool {
    // xa_is_value(): what is not a pointer stands for a place in the swap.
    const VALUE: usize = 1;
    let mut index = first;
    // SAFETY: By the contract of this function. What is found is not looked at.
    let mut entry = unsafe {
        bindings::xa_find(
            &raw mut (*mapping).i_pages,
            &mut index,
            last,
            bindings::XA_PRESENT,
        )
    };
    while !entry.is_null() {
        if entry.addr() & VALUE != 0 {
            return false;
        }
        // SAFETY: As above.
        entry = unsafe {
            bindings::xa_find_after(
                &raw mut (*mapping).i_pages,
                &mut index,
                last,
                bindings::XA_PRESENT,
            )
        };
    }
    true
}

/// Whether all of the pages are in the page cache, have been read, and nobody works on them.
///
/// # Safety
///
/// `mapping` is valid.
unsafe fn is_cached(mapping: *mut bindings::address_space, first: usize, last: usize) -> bool {
    let mut next = first;

    while next <= last {
        // SAFETY: By the contract of this function.
        let folios = unsafe { Folios::contiguous(mapping, &mut next, last) };
        if folios.is_empty() || !folios.are_ready() {
            return false;
        }
    }
    true
}
