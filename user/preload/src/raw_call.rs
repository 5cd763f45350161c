// SPDX-License-Identifier: GPL-2.0

//! syscall(2), for programs that lock memory by the number of the call; and the way of this library
//! itself to the system calls that it stands before.
//!
//! In C it takes a variable number of arguments. Rust can only define functions with a fixed one;
//! with seven integers it is the same on x86-64: the arguments come in the same registers and the
//! last one in the same place on the stack, whatever is there if the caller gave fewer.

use libc::{c_long, c_uint, c_void, size_t};
use rustix::io::Errno;
use std::{
    arch::asm,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

type Syscall =
    unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

/// The `syscall` that would be called without this library. Until it is found, the kernel itself.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(kernel as *mut c_void);

/// Find out. Not when the first call comes: that may be in a signal handler or an allocator.
pub(crate) fn find_next() {
    // SAFETY: looks for a name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
    if !next.is_null() {
        NEXT.store(next, Relaxed);
    }
}

fn next() -> Syscall {
    // SAFETY: NEXT is only ever such a function.
    unsafe { std::mem::transmute::<*mut c_void, Syscall>(NEXT.load(Relaxed)) }
}

/// syscall(2). Those that lock or unlock a range go the same way as [`mlock`](crate::mlock).
///
/// # Safety
///
/// As for the call with this number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let addr = std::ptr::with_exposed_provenance(a as usize);
    // SAFETY: the same arguments; locking requires nothing of them.
    unsafe {
        match number {
            libc::SYS_mlock => crate::mlock(addr, b as size_t).into(),
            libc::SYS_mlock2 => crate::mlock2(addr, b as size_t, c as c_uint).into(),
            libc::SYS_munlock => crate::munlock(addr, b as size_t).into(),
            // Optimized, this is a jump: what clone(2) does with the stack is none of our business.
            _ => next()(number, a, b, c, d, e, f),
        }
    }
}

/// A call that this library stands before, as if it did not.
pub(crate) fn system_call(
    number: c_long,
    addr: *const c_void,
    len: size_t,
    flags: c_uint,
) -> c_long {
    // SAFETY: locking requires nothing of its arguments.
    unsafe {
        next()(
            number,
            addr.addr() as c_long,
            len as c_long,
            flags.into(),
            0,
            0,
            0,
        )
    }
}

/// What syscall(2) of the C library does.
unsafe extern "C" fn kernel(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let result: c_long;
    // SAFETY: the caller answers for the arguments; these registers are how they are passed, and
    // the kernel changes no others.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match result {
        -4095..0 => crate::set_errno(Errno::from_raw_os_error(-result as i32)).into(),
        _ => result,
    }
}
