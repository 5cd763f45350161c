// SPDX-License-Identifier: GPL-2.0

//! A VMA, as far as locking cares.
//!
//! Lock state: a [`Vma`] borrows from a guard of the mmap lock.

use super::LockMode;
use core::ptr::NonNull;
use kernel::{
    bindings,
    fs::file::LocalFile,
    mm::virt::{
        flags,
        vm_flags_t,
        VmaRef, //
    },
    page::PAGE_SHIFT,
    sync::aref::ARef, //
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

impl FaultAccess {
    /// As flags of `get_user_pages()`.
    pub(super) fn gup_flags(self) -> u32 {
        match self {
            FaultAccess::Write => bindings::FOLL_WRITE,
            FaultAccess::ForcedRead => bindings::FOLL_FORCE,
        }
    }

    /// As flags of `handle_mm_fault()`, which does not ask whether the caller may read.
    pub(super) fn fault_flags(self) -> u32 {
        match self {
            FaultAccess::Write => bindings::fault_flag_FAULT_FLAG_WRITE,
            FaultAccess::ForcedRead => 0,
        }
    }
}

/// A VMA that stays as it is while the mmap lock, or its own lock, is held.
///
/// # Invariants
///
/// The pointer is valid, and the mmap lock or the VMA's lock is held, for `'a`.
#[derive(Clone, Copy)]
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

    /// What its lock flags say. VM_LOCKONFAULT never comes alone.
    pub(crate) fn lock_mode(&self) -> LockMode {
        match (self.is_locked(), self.is_lock_on_fault()) {
            (false, _) => LockMode::Unlocked,
            (true, true) => LockMode::OnFault,
            (true, false) => LockMode::Resident,
        }
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

    pub(super) fn as_raw(&self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }

    /// Whether only the calling thread itself may fault pages in: protection keys are those of the
    /// thread that faults, a shadow stack is refused by `get_user_pages()` only, and a userfaultfd
    /// handler is waited for.
    pub(super) fn needs_the_caller(&self) -> bool {
        const KEYS: vm_flags_t = 0x1f << bindings::VMA_PKEY_BIT0_BIT;
        // VMA_SHADOW_STACK_BIT, which the bindings have only where there is such a thing.
        const SHADOW_STACK: vm_flags_t = if cfg!(CONFIG_ARM64_GCS) {
            1 << bindings::VMA_HIGH_ARCH_6_BIT
        } else if cfg!(any(CONFIG_X86_USER_SHADOW_STACK, CONFIG_RISCV_USER_CFI)) {
            1 << bindings::VMA_HIGH_ARCH_5_BIT
        } else {
            0
        };

        cfg!(CONFIG_ARCH_HAS_PKEYS) && self.has_any(KEYS)
            || self.has_any(SHADOW_STACK)
            || self.is_userfaultfd_armed()
    }

    /// Whether pages of its own may be in it; without that, all are those of its file.
    pub(super) fn may_have_anonymous_pages(&self) -> bool {
        // SAFETY: By the type invariants. The first such page sets it, also under the VMA's lock.
        let anon_vma = unsafe { (&raw const (*self.as_raw()).anon_vma).read_volatile() };
        !anon_vma.is_null()
    }

    /// What it maps, for `'a`.
    pub(super) fn file_raw(&self) -> Option<NonNull<bindings::file>> {
        // SAFETY: By the type invariants, it is valid, and its file stays while it is locked.
        NonNull::new(unsafe { (*self.as_raw()).vm_file })
    }

    /// Its file, if it maps one, with a reference of its own.
    pub(super) fn file(&self) -> Option<ARef<LocalFile>> {
        let file = self.file_raw()?;
        // SAFETY: A locked VMA keeps its file alive. Its reference is one more than that of a file
        // descriptor, so that a concurrent `fdget_pos` takes the lock of the file position.
        Some(ARef::from(unsafe {
            LocalFile::from_raw_file(file.as_ptr())
        }))
    }

    /// The page of the file that would be at address 0; it may wrap around.
    fn file_base(&self) -> usize {
        // SAFETY: By the type invariants.
        let pgoff = unsafe { (*self.as_raw()).vm_pgoff };
        pgoff.wrapping_sub(self.start() >> PAGE_SHIFT)
    }

    /// The page of the file at `addr`.
    pub(super) fn file_page(&self, addr: usize) -> usize {
        self.file_base().wrapping_add(addr >> PAGE_SHIFT)
    }

    /// When it was last locked for writing, as the mmap lock counts; `None` if that is not known.
    #[cfg(CONFIG_PER_VMA_LOCK)]
    pub(super) fn lock_sequence(&self) -> Option<u32> {
        // SAFETY: By the type invariants. Only writers change it.
        Some(unsafe { (&raw const (*self.as_raw()).vm_lock_seq).read_volatile() })
    }

    /// When it was last locked for writing, as the mmap lock counts; `None` if that is not known.
    #[cfg(not(CONFIG_PER_VMA_LOCK))]
    pub(super) fn lock_sequence(&self) -> Option<u32> {
        None
    }
}

/// What a VMA maps, and how it is locked: what has to be the same again if a page of it is to count
/// as not replaced. Protection, and where the VMA begins and ends, may change.
pub(crate) struct VmaIdentity {
    /// The reference keeps the address of the file from being used for another one.
    file: Option<ARef<LocalFile>>,
    /// [`Vma::file_base`]. Anonymous memory has one too, which it keeps when it is moved.
    base: usize,
    /// [`Self::KIND`].
    kind: vm_flags_t,
}

impl VmaIdentity {
    const KIND: vm_flags_t = VM_LOCKED
        | flags::LOCKONFAULT
        | flags::SHARED
        | flags::HUGETLB
        | flags::IO
        | flags::PFNMAP
        | 1 << bindings::VMA_DROPPABLE_BIT;

    pub(crate) fn of(vma: &Vma<'_>) -> Self {
        Self {
            file: vma.file(),
            base: vma.file_base(),
            kind: vma.0.flags() & Self::KIND,
        }
    }

    /// Whether `vma` maps the same in the same way.
    pub(crate) fn is_that_of(&self, vma: &Vma<'_>) -> bool {
        let same_file = match (&self.file, vma.file_raw()) {
            (None, None) => true,
            (Some(file), Some(other)) => core::ptr::eq(file.as_ptr(), other.as_ptr()),
            _ => false,
        };
        same_file && self.base == vma.file_base() && self.kind == vma.0.flags() & Self::KIND
    }
}
