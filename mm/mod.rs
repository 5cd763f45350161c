// SPDX-License-Identifier: GPL-2.0

//! The unsafe layer: safe types over the kernel's C interfaces for memory management.
//!
//! Everything here acts on the address space of the calling thread. Lock order: the mmap lock, held
//! through [`MmapWriteGuard`] or [`MmapReadGuard`], is the only lock; nothing here takes another
//! one while it is held.

mod fault;
mod guard;
mod limit;
mod range;
pub(crate) mod readahead;
mod resident;
pub(crate) mod uapi;
mod vma;

pub(crate) use self::{
    fault::Progress,
    guard::{
        CallerMm,
        LockMode,
        MmapLocked,
        MmapQueryGuard,
        MmapReadGuard,
        MmapWriteGuard, //
    },
    limit::{
        can_do_mlock,
        has_cap_ipc_lock,
        memlock_limit_pages, //
    },
    range::{
        pages,
        untagged_addr,
        PageAddr,
        PageRange, //
    },
    resident::Residency,
    vma::Vma, //
};
