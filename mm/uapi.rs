// SPDX-License-Identifier: GPL-2.0

//! The ABI: the types that bindgen makes from `include/uapi/linux/mlock_rs.h`, and how they come
//! from and go to user space.
//!
//! Lock state: copying may fault, so that the mmap lock must not be held.

use core::mem::{
    offset_of,
    size_of, //
};
use kernel::{
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Made by bindgen in the build.
mod generated {
    #![allow(
        dead_code,
        missing_docs,
        non_camel_case_types,
        non_upper_case_globals,
        unreachable_pub,
        clippy::all
    )]
    include!(env!("MLOCK_RS_UAPI"));
}

pub(crate) use generated::mlock_rs_lock;

/// `MLOCK_RS_LOCK`.
pub(crate) const MLOCK_RS_LOCK: u32 = generated::mlock_rs_ioctl_MLOCK_RS_LOCK;

/// A structure of the ABI that grows at its end.
pub(crate) trait Versioned: FromBytes + AsBytes + Default {
    /// Size of the first version, in bytes. Nobody can have been built with less.
    const FIRST_SIZE: usize;
    /// Where the fields begin that the module writes.
    const RESULT_OFFSET: usize;
}

// SAFETY: Integers only, for which every pattern of bits is a value.
unsafe impl FromBytes for mlock_rs_lock {}
// SAFETY: Integers only, without padding between them: the sizes of the fields add up to the size.
unsafe impl AsBytes for mlock_rs_lock {}
const _: () = assert!(size_of::<mlock_rs_lock>() == 56);

impl Versioned for mlock_rs_lock {
    const FIRST_SIZE: usize = generated::MLOCK_RS_LOCK_SIZE_VER0 as usize;
    const RESULT_OFFSET: usize = offset_of!(mlock_rs_lock, locked);
}

/// Read a structure that the caller was built with `size` bytes of, as `copy_struct_from_user()`
/// does.
///
/// # Errors
///
/// - EINVAL: shorter than the first version.
/// - E2BIG: longer than the module knows, with something in the tail.
/// - EFAULT: cannot be read.
pub(crate) fn read_struct<T: Versioned>(arg: UserPtr, size: usize) -> Result<T> {
    if size < T::FIRST_SIZE {
        return Err(EINVAL);
    }
    let mut reader = UserSlice::new(arg, size).reader();
    let mut value = T::default();
    let known = size.min(size_of::<T>());

    if let Some(bytes) = value.as_bytes_mut().get_mut(..known) {
        reader.read_slice(bytes)?;
    }
    while !reader.is_empty() {
        if reader.read::<u8>()? != 0 {
            return Err(E2BIG);
        }
    }
    Ok(value)
}

/// Write the result fields of `value` into a structure of `size` bytes.
///
/// # Errors
///
/// EFAULT: cannot be written.
pub(crate) fn write_result<T: Versioned>(arg: UserPtr, size: usize, value: &T) -> Result {
    let known = size.min(size_of::<T>());
    let result = value
        .as_bytes()
        .get(T::RESULT_OFFSET..known)
        .ok_or(EINVAL)?;

    UserSlice::new(arg.wrapping_byte_add(T::RESULT_OFFSET), result.len())
        .writer()
        .write_slice(result)
}
