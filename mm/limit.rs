// SPDX-License-Identifier: GPL-2.0

//! What the calling thread may lock: RLIMIT_MEMLOCK and CAP_IPC_LOCK.
//!
//! May be called with or without the mmap lock, as `do_mlock()` does both.

use kernel::{
    bindings,
    page::PAGE_SHIFT, //
};

/// Whether the caller may lock memory at all: a limit that is not 0, or CAP_IPC_LOCK.
pub(crate) fn can_do_mlock() -> bool {
    // SAFETY: Looks at the current task only.
    unsafe { bindings::can_do_mlock() }
}

/// Whether the caller has CAP_IPC_LOCK, which lifts the limit.
pub(crate) fn has_cap_ipc_lock() -> bool {
    // SAFETY: Looks at the current task only, and CAP_IPC_LOCK is a valid capability.
    unsafe { bindings::capable(bindings::CAP_IPC_LOCK as i32) }
}

/// The soft RLIMIT_MEMLOCK of the calling process in pages: `rlimit(RLIMIT_MEMLOCK)`.
pub(crate) fn memlock_limit_pages() -> usize {
    const MEMLOCK: usize = bindings::RLIMIT_MEMLOCK as usize;

    // SAFETY: `signal` of the current task is valid as long as it runs.
    let limit = unsafe { &raw const (*(*bindings::get_current()).signal).rlim[MEMLOCK].rlim_cur };
    // SAFETY: As above. prlimit(2) may write it at any time; it is one word, read once, as
    // `READ_ONCE()` does in `task_rlimit()`.
    let bytes = unsafe { limit.read_volatile() };
    bytes >> PAGE_SHIFT
}
