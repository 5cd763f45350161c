// SPDX-License-Identifier: GPL-2.0

//! A VMA iterator: finds one VMA after the other, mostly without a walk from the root of their tree.
//!
//! Lock state: the mmap lock is held, in either way, as long as the iterator lives.

use super::{
    guard::CallerMm,
    MmapLocked,
    Vma, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::bindings;

/// So many VMAs are gone through before the walk begins at the root again.
const STEPS: usize = 2;

/// Finds VMAs, best in the order of their addresses.
///
/// # Invariants
///
/// The mmap lock is held for `'g`, and the tree of VMAs is not changed meanwhile; `state` is what the
/// last walk of it has left, and that has found `last`.
pub(crate) struct VmaIterator<'g> {
    state: bindings::ma_state,
    last: Option<Vma<'g>>,
    _guard: PhantomData<&'g CallerMm<'g>>,
}

impl<'g> VmaIterator<'g> {
    /// What changes VMAs, or gives the lock up, wants the guard for itself.
    pub(crate) fn new(guard: &'g impl MmapLocked) -> Self {
        // INVARIANT: The lock is held by the contract of the trait, and nothing has been found.
        Self {
            state: walk_from(guard.caller_mm(), 0),
            last: None,
            _guard: PhantomData,
        }
    }

    /// The first VMA that ends after `addr`; it may start after `addr` too.
    pub(crate) fn find(&mut self, addr: usize) -> Option<Vma<'g>> {
        if let Some(last) = self.last.filter(|last| last.start() <= addr) {
            if addr < last.end() {
                return self.last;
            }
            for _ in 0..STEPS {
                let next = self.next();
                if next.is_none_or(|next| addr < next.end()) {
                    return next;
                }
            }
        }
        // INVARIANT: That of a walk that has not begun: mas_set().
        self.state.index = addr;
        self.state.last = addr;
        self.state.node = ptr::null_mut();
        self.state.status = bindings::maple_status_ma_start;
        self.next()
    }

    /// The next VMA, or the first one at or after where the walk is to begin.
    fn next(&mut self) -> Option<Vma<'g>> {
        // INVARIANT: It is the state of this walk.
        // SAFETY: By the type invariants the tree is as it was when the state was left.
        let vma = unsafe { bindings::mas_find(&mut self.state, usize::MAX) };
        let vma = vma.cast::<bindings::vm_area_struct>();
        // SAFETY: If it is not null, the VMA is valid and cannot change while the mmap lock is
        // held, which is for `'g`. Nothing else is in the tree of an address space that is in use.
        self.last = (!vma.is_null()).then(|| unsafe { Vma::from_raw(vma) });
        self.last
    }
}

/// The state of a walk of the tree of VMAs that is to begin at `addr`.
pub(super) fn walk_from(mm: &CallerMm<'_>, addr: usize) -> bindings::ma_state {
    bindings::ma_state {
        // SAFETY: The address space is valid.
        tree: unsafe { &raw mut (*mm.as_raw()).__bindgen_anon_1.mm_mt },
        index: addr,
        last: addr,
        max: usize::MAX,
        status: bindings::maple_status_ma_start,
        ..Default::default()
    }
}
