// SPDX-License-Identifier: GPL-2.0

//! All of the unsafe code: the ioctl, mappings, and elements that live in one.

use crate::{page_size, uapi};
use rustix::{
    fd::{AsFd, BorrowedFd},
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode},
    mm::{Advice, MapFlags, MlockFlags, ProtFlags},
};
use std::{
    ffi::c_void,
    marker::PhantomData,
    mem::{align_of, size_of},
    ptr::NonNull,
};
use zeroize::Zeroize;

/// A structure that is the argument of one ioctl.
///
/// # Safety
///
/// `OPCODE` must be the ioctl that takes this structure, by its size, and the kernel must write
/// nothing but the structure.
pub unsafe trait Argument {
    /// The number of the ioctl.
    const OPCODE: Opcode;
}

macro_rules! argument {
    ($($type:ident: $opcode:ident,)*) => {$(
        // SAFETY: so the header says; an ioctl number has the size in it.
        unsafe impl Argument for uapi::$type {
            const OPCODE: Opcode = uapi::$opcode;
        }
        const _: () = assert!((uapi::$opcode >> 16 & 0x3fff) as usize == size_of::<uapi::$type>());
    )*};
}

argument! {
    mlock_rs_lock: MLOCK_RS_LOCK,
    mlock_rs_unlock: MLOCK_RS_UNLOCK,
    mlock_rs_lockv: MLOCK_RS_LOCKV,
    mlock_rs_unlockv: MLOCK_RS_UNLOCKV,
    mlock_rs_query: MLOCK_RS_QUERY,
    mlock_rs_abi: MLOCK_RS_ABI,
    mlock_rs_progress: MLOCK_RS_PROGRESS,
}

struct Call<'a, T>(&'a mut T);

// SAFETY: the trait `Argument` promises that number and argument fit together.
unsafe impl<T: Argument> Ioctl for Call<'_, T> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        T::OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn call<T: Argument>(device: BorrowedFd<'_>, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: the kernel writes to `argument` only, whose fields take any bits. If `device` is
    // another device, it does not know a number with this magic.
    unsafe { rustix::ioctl::ioctl(device, Call(argument)) }
}

/// mlock(2) or mlock2(2), at any address.
pub(crate) fn mlock(addr: usize, len: usize, on_fault: bool) -> Result<(), Errno> {
    let addr = std::ptr::without_provenance_mut(addr);
    // SAFETY: neither reads nor writes what is there.
    unsafe {
        if on_fault {
            rustix::mm::mlock_with(addr, len, MlockFlags::ONFAULT)
        } else {
            rustix::mm::mlock(addr, len)
        }
    }
}

/// munlock(2), at any address.
pub(crate) fn munlock(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: neither reads nor writes what is there.
    unsafe { rustix::mm::munlock(std::ptr::without_provenance_mut(addr), len) }
}

/// A mapping of whole pages that nobody else knows of; gone when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: memory belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping can only be asked where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// At least `len` bytes of zeroes that core dumps leave out.
    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let len = len
            .max(1)
            .checked_next_multiple_of(page_size())
            .ok_or(Errno::NOMEM)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE)
        };
        let mapping = Self::owned(start?, len)?;
        // SAFETY: only says what goes into a core dump.
        unsafe { rustix::mm::madvise(mapping.start.as_ptr().cast(), len, Advice::LinuxDontDump) }?;
        Ok(mapping)
    }

    /// The first `len` bytes of a file, to read.
    pub(crate) fn file(file: impl AsFd, len: usize) -> Result<Self, Errno> {
        let (prot, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, file, 0) };
        Self::owned(start?, len)
    }

    fn owned(start: *mut c_void, len: usize) -> Result<Self, Errno> {
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len })
    }

    pub(crate) fn addr(&self) -> usize {
        self.start.as_ptr().addr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// For each page, whether it is in memory.
    pub(crate) fn in_core(&self) -> Result<Vec<bool>, Errno> {
        let mut pages = vec![0u8; self.len.div_ceil(page_size())];
        // SAFETY: writes one byte for each page of the mapping, as many as there are.
        let result =
            unsafe { libc::mincore(self.start.as_ptr().cast(), self.len, pages.as_mut_ptr()) };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
        }
        Ok(pages.into_iter().map(|page| page & 1 != 0).collect())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing points into it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Room for elements in a mapping of its own. What is taken out is zeroed.
pub(crate) struct Slots<T> {
    mapping: Mapping,
    /// The first so many slots hold an element.
    len: usize,
    _elements: PhantomData<T>,
}

impl<T> Slots<T> {
    /// Room for at least `capacity` elements; nothing has been written there yet.
    pub(crate) fn new(capacity: usize) -> Result<Self, Errno> {
        const {
            assert!(size_of::<T>() > 0, "there is nothing to lock");
            assert!(align_of::<T>() <= 4096, "a mapping starts at a page");
        }
        let bytes = capacity.checked_mul(size_of::<T>()).ok_or(Errno::NOMEM)?;
        Ok(Self {
            mapping: Mapping::anonymous(bytes)?,
            len: 0,
            _elements: PhantomData,
        })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn capacity(&self) -> usize {
        self.mapping.len() / size_of::<T>()
    }

    fn start(&self) -> *mut T {
        self.mapping.start.as_ptr().cast()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: that many slots hold an element, and `&self` keeps others from changing them.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` keeps others from looking.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }

    /// Put an element behind the others; it comes back if there is no room.
    pub(crate) fn push(&mut self, value: T) -> Result<(), T> {
        if self.len == self.capacity() {
            return Err(value);
        }
        // SAFETY: the slot is in the mapping, and empty.
        unsafe { self.start().add(self.len).write(value) };
        self.len += 1;
        Ok(())
    }

    /// Take the last element out.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot holds an element; it does not any more.
        let value = unsafe { self.start().add(self.len).read() };
        self.wipe(self.len, 1);
        Some(value)
    }

    /// Move all elements of `other` behind those that are here.
    ///
    /// # Panics
    ///
    /// If there is no room for them.
    pub(crate) fn take_all(&mut self, other: &mut Self) {
        let moved = other.len;
        assert!(moved <= self.capacity() - self.len);
        // SAFETY: there is room, in another mapping; from here on the elements are in one place.
        unsafe {
            self.start()
                .add(self.len)
                .copy_from_nonoverlapping(other.start(), moved);
        }
        other.len = 0;
        self.len += moved;
        other.wipe(0, moved);
    }

    /// Drop the elements from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        let Some(gone) = self.len.checked_sub(len) else {
            return;
        };
        self.len = len;
        // SAFETY: these slots hold elements, and are not counted any more if a drop panics.
        unsafe {
            let gone = std::ptr::slice_from_raw_parts_mut(self.start().add(len), gone);
            std::ptr::drop_in_place(gone);
        }
        self.wipe(len, gone);
    }

    /// Zero slots that hold no element.
    fn wipe(&mut self, first: usize, slots: usize) {
        debug_assert!(first >= self.len);
        // SAFETY: the slots are in the mapping; bytes of theirs can be written as what they are.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(
                self.start().add(first).cast::<u8>(),
                slots * size_of::<T>(),
            )
        };
        bytes.zeroize();
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
