// SPDX-License-Identifier: GPL-2.0

//! `libmlock_rs_preload.so`: with it in `LD_PRELOAD`, a program's mlock, mlock2 and munlock go
//! through `/dev/mlock_rs`, also where it makes them by the C library's `syscall()`.
//!
//! mlockall and munlockall are left alone, and so are system calls that do not come by the C
//! library. Without the device, and for memory that is registered with userfaultfd, the system call
//! is made instead. The environment changes that:
//!
//! - `MLOCK_RS_STRICT=1`: never the system call. Without the device it fails with ENOSYS, with
//!   userfaultfd with EBUSY.
//! - `MLOCK_RS_STATS=1`, or the name of a file: at exit, say on standard error or append to the
//!   file what went where.
//!
//! A call may come from an allocator, from a signal handler or from a program that has closed all
//! files it knows. So nothing here allocates before the program exits, nor keeps a file open.

use libc::{c_char, c_int, c_long, c_uint, c_void, size_t};
use mlock_rs::{raw, uapi};
use rustix::io::Errno;
use std::{
    ffi::CStr,
    fs::OpenOptions,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed},
};

mod raw_call;

pub use raw_call::syscall;
use raw_call::system_call;

static STRICT: AtomicBool = AtomicBool::new(false);
/// Where to say at exit what went where; null for nowhere.
static STATS: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

static LOCKED: AtomicU64 = AtomicU64::new(0);
static UNLOCKED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static PASSED_ON: AtomicU64 = AtomicU64::new(0);

/// mlock(2).
///
/// # Safety
///
/// Has no other requirements than mlock(2): none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock(addr: *const c_void, len: size_t) -> c_int {
    lock(addr, len, 0, || system_call(libc::SYS_mlock, addr, len, 0))
}

/// mlock2(2). Flags that are unknown here are for the kernel to judge.
///
/// # Safety
///
/// As for [`mlock`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock2(addr: *const c_void, len: size_t, flags: c_uint) -> c_int {
    let system_call = || system_call(libc::SYS_mlock2, addr, len, flags);
    match flags {
        0 => lock(addr, len, 0, system_call),
        libc::MLOCK_ONFAULT => lock(addr, len, uapi::MLOCK_RS_LOCK_ONFAULT, system_call),
        _ => pass_on(system_call),
    }
}

/// munlock(2).
///
/// # Safety
///
/// As for [`mlock`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munlock(addr: *const c_void, len: size_t) -> c_int {
    let mut argument = uapi::mlock_rs_unlock {
        addr: addr.addr() as u64,
        len: len as u64,
        ..Default::default()
    };
    through_device(&mut argument, &UNLOCKED, || {
        system_call(libc::SYS_munlock, addr, len, 0)
    })
}

fn lock(
    addr: *const c_void,
    len: size_t,
    flags: u32,
    system_call: impl FnOnce() -> c_long,
) -> c_int {
    let mut argument = uapi::mlock_rs_lock {
        addr: addr.addr() as u64,
        len: len as u64,
        flags,
        ..Default::default()
    };
    through_device(&mut argument, &LOCKED, system_call)
}

fn through_device<T: raw::Argument>(
    argument: &mut T,
    done: &AtomicU64,
    system_call: impl FnOnce() -> c_long,
) -> c_int {
    let strict = STRICT.load(Relaxed);
    let Ok(device) = raw::open() else {
        return match strict {
            true => fail(Errno::NOSYS),
            false => pass_on(system_call),
        };
    };
    match raw::call(&device, argument) {
        Ok(()) => {
            done.fetch_add(1, Relaxed);
            0
        }
        // mlock(2) can wait for a userfaultfd handler; another device is as good as none.
        Err(Errno::BUSY | Errno::NOTTY) if !strict => pass_on(system_call),
        Err(errno) => fail(errno),
    }
}

fn pass_on(system_call: impl FnOnce() -> c_long) -> c_int {
    PASSED_ON.fetch_add(1, Relaxed);
    system_call() as c_int
}

fn fail(errno: Errno) -> c_int {
    FAILED.fetch_add(1, Relaxed);
    set_errno(errno)
}

fn set_errno(errno: Errno) -> c_int {
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = errno.raw_os_error() };
    -1
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

extern "C" fn start() {
    // SAFETY: nobody changes the environment before main(), and what is found in it stays.
    unsafe {
        let strict = libc::getenv(c"MLOCK_RS_STRICT".as_ptr());
        STRICT.store(!strict.is_null() && *strict == b'1' as c_char, Relaxed);
        STATS.store(libc::getenv(c"MLOCK_RS_STATS".as_ptr()), Relaxed);
        raw_call::find_next();
        // A child counts anew.
        libc::pthread_atfork(None, None, Some(forget));
    }
}

extern "C" fn forget() {
    for counter in [&LOCKED, &UNLOCKED, &FAILED, &PASSED_ON] {
        counter.store(0, Relaxed);
    }
}

extern "C" fn end() {
    let stats = STATS.load(Relaxed);
    if stats.is_null() {
        return;
    }
    // SAFETY: a string of the environment that the program began with.
    let target = unsafe { CStr::from_ptr(stats) }.to_bytes();
    let name = std::env::args_os().next().unwrap_or_default();
    let line = format!(
        "mlock_rs: {}[{}]: through the device {} locked, {} unlocked, {} failed; \
         by system call {}\n",
        Path::new(&name)
            .file_name()
            .unwrap_or(&name)
            .to_string_lossy(),
        std::process::id(),
        LOCKED.load(Relaxed),
        UNLOCKED.load(Relaxed),
        FAILED.load(Relaxed),
        PASSED_ON.load(Relaxed),
    );
    // There is nobody to tell that it failed.
    let _ = match target {
        b"" | b"0" => Ok(()),
        b"1" => std::io::stderr().write_all(line.as_bytes()),
        file => OpenOptions::new()
            .append(true)
            .create(true)
            .open(std::ffi::OsStr::from_bytes(file))
            .and_then(|mut file| file.write_all(line.as_bytes())),
    };
}
