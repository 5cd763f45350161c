// SPDX-License-Identifier: GPL-2.0

//! The unsafe layer: safe types over the kernel's C interfaces for memory management.
//!
//! Everything here acts on the address space of the calling thread. Lock order: the mmap lock, held
//! through one of the guards, is the only lock of the caller; nothing here takes another one while
//! it is held. Workers take the lock of a VMA, while the caller holds the mmap lock.

mod fault;
mod guard;
mod limit;
mod mlock;
mod page_cache;
mod range;
pub(crate) mod readahead;
mod resident;
pub(crate) mod uapi;
mod vma;
mod vma_fault;
mod vma_iterator;
pub(crate) mod worker;
mod yielding;

pub(crate) use self::{
    fault::{
        resched_if_due,
        sleep_killable,
        Progress,
        Signals, //
    },
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
    vma::{
        FaultAccess,
        Vma,
        VmaIdentity, //
    },
    vma_fault::Helped,
    vma_iterator::VmaIterator,
    worker::{
        allowed_cpus,
        Work,
        Workers, //
    },
    yielding::{
        MmapYieldGuard,
        Sequence,
        Unlockable, //
    }, //
};
