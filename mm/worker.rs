// SPDX-License-Identifier: GPL-2.0

//! User workers: threads of the caller's process that help it for as long as a call takes.
//!
//! They share the caller's address space, and are in its cgroup, cpuset and memory policy, as any
//! thread that it would start. Lock state: they are made and ended without any lock held
//! (`copy_process()` takes `cgroup_threadgroup_rwsem`, whose writers take the mmap lock), and never
//! wait for the mmap lock themselves: behind a writer they would wait for the caller that waits for
//! them.
//!
//! A worker that is stopped (SIGSTOP, a debugger, a freezer) ends when it goes on.
//! `vhost_task_stop()` waits for that, and nothing would end the wait. So it is called by a
//! workqueue, and not before each worker of the call has run once more and seen that it is to go.
//! Only one that is stopped after that holds a thread of the workqueue up, as a debugger can do it.
//! The caller, who is to stop too, waits as long as no signal arrives.

use super::{
    fault::{
        fatal_signal_pending,
        sleep_killable, //
    },
    mlock,
    CallerMm, //
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    mem,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    impl_has_work,
    new_condvar,
    new_spinlock,
    new_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc,
        CondVar,
        SetOnce,
        SpinLock, //
    },
    workqueue::{
        Queue,
        WorkItem, //
    }, //
};

/// Whether the kernel has user workers. Without them it does not have the functions either, so that
/// there must be no call of them.
pub(crate) const AVAILABLE: bool = cfg!(CONFIG_VHOST_TASK);

/// `TASK_RUNNING`, which the bindings do not have.
const TASK_RUNNING: u32 = 0;

fn this_module() -> *mut bindings::module {
    <crate::LocalModule as kernel::ModuleMetadata>::THIS_MODULE.as_ptr()
}

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

    /// Do it until there is nothing left to do, in the address space of the calling thread, or
    /// until a fatal signal is pending.
    fn work(&self, mm: &CallerMm<'_>);
}

/// A worker, which ends when this is dropped.
///
/// # Invariants
///
/// `task` was made by `vhost_task_create()`, started, and not stopped yet. `member`, its argument,
/// is from an [`Arc::into_raw`] of a `Member<W>`.
struct Worker<W: Work> {
    task: *mut mlock::vhost_task,
    member: *mut c_void,
    _member: PhantomData<Arc<Member<W>>>,
}

// SAFETY: Any thread may wake it up and stop it, and `Member<W>` is `Send` and `Sync`.
unsafe impl<W: Work> Send for Worker<W> {}

/// What a worker knows.
struct Member<W: Work> {
    work: Arc<W>,
    crew: Arc<Crew<W>>,
    /// Whether it has left the crew. Only the worker looks.
    left: Atomic<bool>,
}

impl<W: Work> Member<W> {
    /// The worker is not going to do any more. By the worker itself.
    fn leave(&self) {
        if !self.left.load(Relaxed) {
            self.left.store(true, Relaxed);
            Crew::leave(&self.crew);
        }
    }
}

impl<W: Work> Worker<W> {
    /// Start a worker of `crew`. It sleeps until there is work and somebody wakes it up.
    ///
    /// # Errors
    ///
    /// - EAGAIN: RLIMIT_NPROC or the cgroup's `pids.max` is reached.
    /// - ENOMEM: no memory for a thread.
    /// - EOPNOTSUPP: the kernel has no user workers (CONFIG_VHOST_TASK).
    /// - Others that fork(2) has, also because a signal is pending.
    fn start(crew: &Arc<Crew<W>>, work: &Arc<W>) -> Result<Self> {
        if !AVAILABLE {
            return Err(EOPNOTSUPP);
        }
        let member = Arc::new(
            Member {
                work: work.clone(),
                crew: crew.clone(),
                left: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let member = Arc::into_raw(member).cast::<c_void>().cast_mut();

        // SAFETY: The functions take what `Arc::into_raw()` returned, which is valid until the
        // worker has been stopped, and the name is a C string.
        let task = unsafe {
            mlock::vhost_task_create(
                Some(Self::run),
                Some(Self::killed),
                member,
                c"mlock_rs".as_char_ptr(),
            )
        };
        match from_err_ptr(task) {
            Ok(task) => {
                crew.present.add(1, Relaxed);
                // SAFETY: It was just made.
                unsafe { mlock::vhost_task_start(task) };
                // INVARIANT: As above.
                Ok(Self {
                    task,
                    member,
                    _member: PhantomData,
                })
            }
            Err(error) => {
                // SAFETY: From `Arc::into_raw()` above, and nobody else has it.
                drop(unsafe { Arc::from_raw(member.cast::<Member<W>>()) });
                Err(error)
            }
        }
    }

    /// Let it look whether there is work.
    fn wake(&self) {
        if AVAILABLE {
            // SAFETY: By the type invariants.
            unsafe { mlock::vhost_task_wake(self.task) };
        }
    }

    /// What the worker calls again and again. Returns whether to call it again at once; otherwise
    /// the worker sleeps until it is woken up.
    ///
    /// # Safety
    ///
    /// `data` is from an [`Arc::into_raw`] of a `Member<W>` and stays valid during the call.
    unsafe extern "C" fn run(data: *mut c_void) -> bool {
        // SAFETY: By the contract of this function.
        let member = unsafe { &*data.cast::<Member<W>>() };

        // The state is TASK_INTERRUPTIBLE since before these looks, so that no wake-up is lost.
        if member.crew.over.load(Acquire) {
            member.leave();
            return false;
        }
        if !member.work.is_there() || fatal_signal_pending() {
            return false;
        }
        // SAFETY: The current task is valid, and only it sets its own state to running.
        unsafe { (&raw mut (*bindings::get_current()).__state).write_volatile(TASK_RUNNING) };
        let task = current!();
        if let Some(mm) = CallerMm::new(task) {
            member.work.work(&mm);
        }
        true
    }

    /// What the worker calls when SIGKILL ends it. The caller has the same signal.
    ///
    /// # Safety
    ///
    /// As for [`Self::run`].
    unsafe extern "C" fn killed(data: *mut c_void) {
        // SAFETY: By the contract of this function.
        unsafe { &*data.cast::<Member<W>>() }.leave();
    }
}

impl<W: Work> Drop for Worker<W> {
    /// Waits until the worker does not run any more.
    fn drop(&mut self) {
        if AVAILABLE {
            // SAFETY: By the type invariants.
            unsafe { mlock::vhost_task_stop(self.task) };
        }
        // SAFETY: By the type invariants, and nobody uses it any more.
        drop(unsafe { Arc::from_raw(self.member.cast::<Member<W>>()) });
    }
}

/// The workers of a call.
#[pin_data]
struct Crew<W: Work> {
    /// Each of them has a reference to the crew, until they are taken out to end.
    #[pin]
    workers: SpinLock<KVec<Worker<W>>>,
    /// There will be no more work: who sees that leaves.
    over: Atomic<bool>,
    /// How many have not left: the caller, and workers.
    present: Atomic<i32>,
    #[pin]
    dismissal: kernel::workqueue::Work<Crew<W>>,
    #[pin]
    dismissed: SpinLock<bool>,
    #[pin]
    ended: CondVar,
    _place: Place,
}

impl<W: Work> Crew<W> {
    /// One has left, the caller or a worker. The last one sees to it that the workers end.
    fn leave(this: &Arc<Self>) {
        if this.present.fetch_add(-1, Full) > 1 {
            return;
        }
        // There is a queue, as the device comes after it, and the crew is enqueued nowhere else. If
        // it could not be, the workers would stay, and with them the reference to the module.
        if let Some(queue) = QUEUE.as_ref() {
            let _ = queue.get().enqueue(this.clone());
        }
    }
}

impl_has_work! {
    impl{W: Work} HasWork<Crew<W>> for Crew<W> { self.dismissal }
}

impl<W: Work> WorkItem for Crew<W> {
    type Pointer = Arc<Self>;

    /// End all of them.
    fn run(this: Arc<Self>) {
        let workers = mem::take(&mut *this.workers.lock());
        drop(workers);
        *this.dismissed.lock() = true;
        this.ended.notify_all();
        drop(this);
        // SAFETY: [`Workers::drop`] has got a reference. The module stays until its workqueue is
        // destroyed, and that waits for this function.
        unsafe { bindings::module_put(this_module()) };
    }
}

/// The workers of a call. When it is dropped they end; the caller waits for that unless a signal
/// arrives.
pub(crate) struct Workers<W: Work> {
    crew: Arc<Crew<W>>,
    number: usize,
}

impl<W: Work> Workers<W> {
    /// Start up to `wanted` workers, as far as they can be had; `None` if that is nobody.
    ///
    /// # Errors
    ///
    /// ENOMEM: no memory for what it takes to keep them.
    pub(crate) fn hire(work: &Arc<W>, wanted: usize) -> Result<Option<Self>> {
        let Some(place) = AVAILABLE.then(Place::take).flatten() else {
            return Ok(None);
        };
        let crew = Arc::pin_init(
            pin_init!(Crew {
                workers <- new_spinlock!(KVec::new()),
                over: Atomic::new(false),
                present: Atomic::new(1),
                dismissal <- new_work!("mlock_rs::Crew::dismissal"),
                dismissed <- new_spinlock!(false),
                ended <- new_condvar!(),
                _place: place,
            }),
            GFP_KERNEL,
        )?;
        let mut workers = KVec::with_capacity(wanted, GFP_KERNEL)?;
        while workers.len() < wanted {
            let Ok(worker) = Worker::start(&crew, work) else {
                break;
            };
            workers.push(worker, GFP_KERNEL)?;
        }
        let number = workers.len();
        if number == 0 {
            return Ok(None);
        }
        *crew.workers.lock() = workers;
        Ok(Some(Self { crew, number }))
    }

    /// How many there are.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Let them look whether there is work.
    pub(crate) fn wake(&self) {
        for worker in self.crew.workers.lock().iter() {
            worker.wake();
        }
    }
}

impl<W: Work> Drop for Workers<W> {
    fn drop(&mut self) {
        // SAFETY: This is code of the module, so that there is a reference already.
        unsafe { bindings::__module_get(this_module()) };
        self.crew.over.store(true, Release);
        self.wake();
        Crew::leave(&self.crew);
        let mut dismissed = self.crew.dismissed.lock();
        while !*dismissed {
            if self.crew.ended.wait_interruptible_freezable(&mut dismissed) {
                break;
            }
        }
        drop(dismissed);
        // Most signals stop nobody: then it is a matter of microseconds.
        for _ in 0..PATIENCE {
            if *self.crew.dismissed.lock() || fatal_signal_pending() {
                break;
            }
            sleep_killable(PATIENCE_MICROS);
        }
    }
}

/// How often, and for how long at a time, to look again whether the workers have ended after a
/// signal.
const PATIENCE: u32 = 20;
const PATIENCE_MICROS: u32 = 100;

/// Calls that have workers now, or that wait for stopped ones to end. Somebody who stops them again
/// and again could have any number, so that there is a limit; beyond it callers are alone.
static CREWS: Atomic<i32> = Atomic::new(0);
const CREWS_MAX: i32 = 512;

/// A place for a crew, which is free again when this is dropped.
struct Place(());

impl Place {
    fn take() -> Option<Self> {
        // Counted before it is known whether it is one too many, so that there are never more.
        let place = CREWS.fetch_add(1, Relaxed);
        Some(Self(())).filter(|_| place < CREWS_MAX)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CREWS.add(-1, Relaxed);
    }
}

/// The workqueue on which workers end.
static QUEUE: SetOnce<QueuePtr> = SetOnce::new();

/// # Invariants
///
/// Was made by `alloc_workqueue()`, and is not destroyed as long as the device can be opened.
struct QueuePtr(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be used by any thread.
unsafe impl Send for QueuePtr {}
// SAFETY: As above.
unsafe impl Sync for QueuePtr {}

impl QueuePtr {
    fn get(&self) -> &Queue {
        // SAFETY: By the type invariants.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

/// What has to be there for workers to end. Made before the device, and dropped after it.
pub(crate) struct Dismissals(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be destroyed by any thread.
unsafe impl Send for Dismissals {}
// SAFETY: There is nothing to do with a shared one.
unsafe impl Sync for Dismissals {}

impl Dismissals {
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        let (name, flags) = (c"mlock_rs".as_char_ptr(), bindings::wq_flags_WQ_UNBOUND);
        // SAFETY: The name is a C string without a format.
        let queue = unsafe { bindings::alloc_workqueue_noprof(name, flags, 0) };
        let queue = NonNull::new(queue).ok_or(ENOMEM)?;
        // INVARIANT: It was just made, and the module drops `Dismissals` last.
        QUEUE.populate(QueuePtr(queue));
        Ok(Self(queue))
    }
}

impl Drop for Dismissals {
    /// Waits until what runs on it has ended.
    fn drop(&mut self) {
        // SAFETY: By construction, and nobody can enqueue anything any more.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
