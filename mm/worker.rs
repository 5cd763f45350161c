// SPDX-License-Identifier: GPL-2.0

//! User workers: threads of the caller's process that help it for as long as a call takes.
//!
//! They share the caller's address space, and are in its cgroup, cpuset and memory policy, as any
//! thread that it would start. Lock state: they are made and ended without any lock held
//! (`copy_process()` takes `cgroup_threadgroup_rwsem`, whose writers take the mmap lock), and never
//! take the mmap lock themselves: behind a writer that waits they would wait for the caller that
//! waits for them.

use super::{
    fault::fatal_signal_pending,
    CallerMm, //
};
use core::{
    ffi::c_void,
    marker::PhantomData, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::Arc, //
};

/// Whether the kernel has user workers. Without them it does not have the functions either, so that
/// there must be no call of them.
pub(crate) const AVAILABLE: bool = cfg!(CONFIG_VHOST_TASK);

/// `TASK_RUNNING`, which the bindings do not have.
const TASK_RUNNING: u32 = 0;

/// How many CPUs the calling thread may run on now.
pub(crate) fn allowed_cpus() -> usize {
    // SAFETY: The current task is valid; both numbers may change at any time.
    let (allowed, online) = unsafe {
        (
            (&raw const (*bindings::get_current()).nr_cpus_allowed).read_volatile(),
            (&raw const bindings::__num_online_cpus.counter).read_volatile(),
        )
    };
    usize::try_from(allowed.min(online)).unwrap_or(1)
}

/// What a worker does.
pub(crate) trait Work: Send + Sync + 'static {
    /// Whether there is something to do. Must not sleep.
    fn is_there(&self) -> bool;

    /// Do it until there is nothing left to do, in the address space of the calling thread, or until
    /// a fatal signal is pending.
    fn work(&self, mm: &CallerMm<'_>);
}

/// A worker, which ends when this is dropped.
///
/// # Invariants
///
/// `task` was made by `vhost_task_create()`, started, and not stopped yet. `work`, its argument, is
/// from an [`Arc::into_raw`] of a `W`.
pub(crate) struct Worker<W: Work> {
    task: *mut bindings::vhost_task,
    work: *mut c_void,
    _work: PhantomData<Arc<W>>,
}

impl<W: Work> Worker<W> {
    /// Start a worker. It sleeps until there is work and somebody wakes it up.
    ///
    /// # Errors
    ///
    /// - EAGAIN: RLIMIT_NPROC or the cgroup's `pids.max` is reached.
    /// - ENOMEM: no memory for a thread.
    /// - EOPNOTSUPP: the kernel has no user workers (CONFIG_VHOST_TASK).
    /// - Others that fork(2) has, also because a signal is pending.
    pub(crate) fn start(work: Arc<W>) -> Result<Self> {
        if !AVAILABLE {
            return Err(EOPNOTSUPP);
        }
        let work = Arc::into_raw(work).cast::<c_void>().cast_mut();

        // SAFETY: The functions take what `Arc::into_raw()` returned, which is valid until the
        // worker has been stopped, and the name is a C string.
        let task = unsafe {
            bindings::vhost_task_create(
                Some(Self::run),
                Some(Self::killed),
                work,
                c"mlock_rs".as_ptr().cast(),
            )
        };
        match from_err_ptr(task) {
            Ok(task) => {
                // SAFETY: It was just made.
                unsafe { bindings::vhost_task_start(task) };
                // INVARIANT: As above.
                Ok(Self {
                    task,
                    work,
                    _work: PhantomData,
                })
            }
            Err(error) => {
                // SAFETY: From `Arc::into_raw()` above, and nobody else has it.
                drop(unsafe { Arc::from_raw(work.cast::<W>()) });
                Err(error)
            }
        }
    }

    /// Let it look whether there is work.
    pub(crate) fn wake(&self) {
        if AVAILABLE {
            // SAFETY: By the type invariants.
            unsafe { bindings::vhost_task_wake(self.task) };
        }
    }

    /// What the worker calls again and again. Returns whether to call it again at once; otherwise
    /// the worker sleeps until it is woken up.
    ///
    /// # Safety
    ///
    /// `data` is from an [`Arc::into_raw`] of a `W` and stays valid during the call.
    unsafe extern "C" fn run(data: *mut c_void) -> bool {
        // SAFETY: By the contract of this function.
        let work = unsafe { &*data.cast::<W>() };

        // The state is TASK_INTERRUPTIBLE since before this look, so that no wake-up is lost.
        if !work.is_there() || fatal_signal_pending() {
            return false;
        }
        // SAFETY: The current task is valid, and only it sets its own state to running.
        unsafe { (&raw mut (*bindings::get_current()).__state).write_volatile(TASK_RUNNING) };
        let task = current!();
        if let Some(mm) = CallerMm::new(task) {
            work.work(&mm);
        }
        true
    }

    /// What the worker calls when SIGKILL ends it. The caller has the same signal.
    unsafe extern "C" fn killed(_data: *mut c_void) {}
}

impl<W: Work> Drop for Worker<W> {
    /// Waits until the worker does not run any more.
    fn drop(&mut self) {
        if AVAILABLE {
            // SAFETY: By the type invariants.
            unsafe { bindings::vhost_task_stop(self.task) };
        }
        // SAFETY: By the type invariants, and nobody uses it any more.
        drop(unsafe { Arc::from_raw(self.work.cast::<W>()) });
    }
}
