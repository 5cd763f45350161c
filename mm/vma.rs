// SPDX-License-Identifier: GPL-2.0

//! A VMA, as far as locking cares.
//!
//! Lock state: a [`Vma`] borrows from a guard of the mmap lock.

use kernel::{
    bindings,
    mm::virt::{
        flags,
        vm_flags_t,
        VmaRef, //
    }, //
};

/// `VM_LOCKED`, which `kernel::mm::virt::flags` does not have.
const VM_LOCKED: vm_flags_t = 1 << bindings::VMA_LOCKED_BIT;

/// How a page has to be faulted in.
#[derive(Clone, Copy)]
pub(crate) enum FaultAccess {
    /// For writing, so that copy-on-write is over before the page is locked.
    Write,
    /// For reading, whether or not the caller may read.
    ForcedRead,
}

/// A VMA that stays as it is while the mmap lock is held.
///
/// # Invariants
///
/// The pointer is valid, and the mmap lock is held, for `'a`.
pub(crate) struct Vma<'a>(&'a VmaRef);

impl<'a> Vma<'a> {
    /// # Safety
    ///
    /// `vma` is valid, and the mmap lock or the VMA's lock is held, for `'a`.
    pub(super) unsafe fn from_raw(vma: *const bindings::vm_area_struct) -> Self {
        // INVARIANT: By the contract of this function.
        // SAFETY: As above.
        Self(unsafe { VmaRef::from_raw(vma) })
    }

    /// The first address.
    pub(crate) fn start(&self) -> usize {
        self.0.start()
    }

    /// The address after the last one.
    pub(crate) fn end(&self) -> usize {
        self.0.end()
    }

    fn has_any(&self, flags: vm_flags_t) -> bool {
        self.0.flags() & flags != 0
    }

    /// VM_LOCKED: its pages count in VmLck and stay resident.
    pub(crate) fn is_locked(&self) -> bool {
        self.has_any(VM_LOCKED)
    }

    /// VM_LOCKONFAULT: its pages are locked when somebody else faults them in.
    pub(crate) fn is_lock_on_fault(&self) -> bool {
        self.has_any(flags::LOCKONFAULT)
    }

    /// VM_HUGETLB.
    pub(crate) fn is_hugetlb(&self) -> bool {
        self.has_any(flags::HUGETLB)
    }

    /// Device memory, which has no pages that could be faulted in this way: `__mm_populate()` skips
    /// it.
    pub(crate) fn is_never_populated(&self) -> bool {
        self.has_any(flags::IO | flags::PFNMAP)
    }

    /// How `populate_vma_page_range()` would fault its pages in; `None` if nothing may (PROT_NONE).
    pub(crate) fn fault_access(&self) -> Option<FaultAccess> {
        if !self.has_any(flags::READ | flags::WRITE | flags::EXEC) {
            None
        } else if self.has_any(flags::WRITE) && !self.has_any(flags::SHARED) {
            Some(FaultAccess::Write)
        } else {
            // Shared pages do not copy on write, and a write fault would dirty them for nothing.
            Some(FaultAccess::ForcedRead)
        }
    }

    /// Whether it is registered with userfaultfd, so that a fault may wait for a handler.
    #[cfg(CONFIG_USERFAULTFD)]
    pub(crate) fn is_userfaultfd_armed(&self) -> bool {
        // SAFETY: The pointer is valid by the type invariants, and the context only changes with
        // the mmap lock held for writing.
        let context = unsafe { (*self.0.as_ptr()).vm_userfaultfd_ctx.ctx };
        !context.is_null()
    }

    /// Whether it is registered with userfaultfd, so that a fault may wait for a handler.
    #[cfg(not(CONFIG_USERFAULTFD))]
    pub(crate) fn is_userfaultfd_armed(&self) -> bool {
        false
    }
}
