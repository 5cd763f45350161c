// SPDX-License-Identifier: GPL-2.0

//! A program that knows nothing of the device: makes the calls that its arguments name, and prints
//! for each of them its result, errno, and by how many KiB VmLck changed.

use std::{ffi::c_void, fs, io::Error};

const PAGE: usize = 4096;
const PAGES: usize = 8;

fn vmlck() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Maps the second page of a file by syscall(2), which needs all six arguments, and returns its
/// first byte.
fn six_arguments() -> i32 {
    // SAFETY: new mappings, of which one byte is read.
    unsafe {
        let file = libc::memfd_create(c"two pages".as_ptr(), 0);
        let both = [[1u8; PAGE], [2u8; PAGE]];
        assert_eq!(
            libc::write(file, both.as_ptr().cast(), 2 * PAGE),
            2 * PAGE as isize
        );
        let (none, prot, flags) = (0usize, libc::PROT_READ, libc::MAP_SHARED);
        let second = libc::syscall(libc::SYS_mmap, none, PAGE, prot, flags, file, PAGE);
        assert_ne!(second, -1);
        let byte = *std::ptr::with_exposed_provenance::<u8>(second as usize);
        libc::munmap(std::ptr::with_exposed_provenance_mut(second as usize), PAGE);
        libc::close(file);
        byte.into()
    }
}

fn main() {
    // SAFETY: a new mapping.
    let start = unsafe {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        libc::mmap(std::ptr::null_mut(), PAGES * PAGE, prot, flags, -1, 0)
    };
    assert_ne!(start, libc::MAP_FAILED);
    let page = |n: usize| start.cast::<u8>().wrapping_add(n * PAGE).cast::<c_void>();
    let all = PAGES * PAGE;

    for call in std::env::args().skip(1) {
        let before = vmlck();
        // SAFETY: of no consequence for what Rust knows of.
        let result = unsafe {
            match &*call {
                "mlock" => libc::mlock(start, all),
                "mlock-one-byte" => libc::mlock(page(1).cast::<u8>().wrapping_add(7).cast(), 1),
                "mlock-nothing" => libc::mlock(start, 0),
                "mlock2" => libc::mlock2(start, all, 0),
                "mlock2-onfault" => libc::mlock2(start, all, libc::MLOCK_ONFAULT),
                "mlock2-wrong-flags" => libc::mlock2(start, all, 0x80),
                "munlock" => libc::munlock(start, all),
                "raw-mlock" => libc::syscall(libc::SYS_mlock, start, all) as i32,
                "raw-mlock2-onfault" => {
                    libc::syscall(libc::SYS_mlock2, start, all, libc::MLOCK_ONFAULT) as i32
                }
                "raw-mlock2-wrong-flags" => {
                    libc::syscall(libc::SYS_mlock2, start, all, 0x80) as i32
                }
                "raw-munlock" => libc::syscall(libc::SYS_munlock, start, all) as i32,
                "raw-close" => libc::syscall(libc::SYS_close, -1) as i32,
                "raw-six-arguments" => six_arguments(),
                "munlock-middle" => libc::munlock(page(2), PAGE),
                "protect" => libc::mprotect(page(3), PAGE, libc::PROT_NONE),
                "unmap-first" => libc::munmap(start, PAGE),
                "mlockall" => libc::mlockall(libc::MCL_CURRENT),
                "munlockall" => libc::munlockall(),
                "limit" => {
                    libc::setuid(65534);
                    let limit = libc::rlimit {
                        rlim_cur: PAGE as u64,
                        rlim_max: PAGE as u64,
                    };
                    libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit)
                }
                "no-limit-at-all" => {
                    let limit = libc::rlimit {
                        rlim_cur: 0,
                        rlim_max: 0,
                    };
                    libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit)
                }
                "close-all" => libc::close_range(3, u32::MAX, 0),
                "fork" => {
                    if libc::fork() == 0 {
                        libc::mlock(start, all);
                        libc::exit(0);
                    }
                    libc::wait(std::ptr::null_mut());
                    0
                }
                _ => panic!("{call}?"),
            }
        };
        let error = if result < 0 {
            Error::last_os_error().raw_os_error()
        } else {
            None
        };
        let mut change = vmlck() - before;
        if call.ends_with("lockall") {
            // That is about libraries too.
            change = change.signum();
        }
        println!("{call}: {result} {} {change:+}", error.unwrap_or(0));
    }
}
