// SPDX-License-Identifier: GPL-2.0

//! The ABI: the types that bindgen makes from `include/uapi/linux/mlock_rs.h`, and how they come
//! from and go to user space.
//!
//! Lock state: copying may fault, so that the mmap lock must not be held.

use core::mem::{
    offset_of,
    size_of,
    size_of_val, //
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

pub(crate) use generated::{
    mlock_rs_abi,
    mlock_rs_lock,
    mlock_rs_lockv,
    mlock_rs_query,
    mlock_rs_range,
    mlock_rs_unlock,
    mlock_rs_unlockv,
    MLOCK_RS_ABI_VERSION,
    MLOCK_RS_FEATURE_LOCK,
    MLOCK_RS_FEATURE_ONFAULT,
    MLOCK_RS_FEATURE_QUERY,
    MLOCK_RS_FEATURE_VECTOR,
    MLOCK_RS_LOCK_ONFAULT,
    MLOCK_RS_MAX_RANGES,
    MLOCK_RS_QUERY_LOCKED_RESIDENT, //
};

// bindgen puts the name of the enum in front.
pub(crate) use generated::{
    mlock_rs_ioctl_MLOCK_RS_ABI as MLOCK_RS_ABI,
    mlock_rs_ioctl_MLOCK_RS_LOCK as MLOCK_RS_LOCK,
    mlock_rs_ioctl_MLOCK_RS_LOCKV as MLOCK_RS_LOCKV,
    mlock_rs_ioctl_MLOCK_RS_QUERY as MLOCK_RS_QUERY,
    mlock_rs_ioctl_MLOCK_RS_UNLOCK as MLOCK_RS_UNLOCK,
    mlock_rs_ioctl_MLOCK_RS_UNLOCKV as MLOCK_RS_UNLOCKV, //
};

/// A structure of the ABI that grows at its end.
pub(crate) trait Versioned: FromBytes + AsBytes + Default {
    /// Size of the first version, in bytes. Nobody can have been built with less.
    const FIRST_SIZE: usize;
    /// Where the fields begin that the module writes.
    const RESULT_OFFSET: usize;
}

/// Says for a structure which fields it has, so that it can be checked that there is no padding,
/// and which one the result begins with.
macro_rules! uapi_struct {
    ($type:ident { $($field:ident),* }) => {
        // SAFETY: Integers only, for which every pattern of bits is a value.
        unsafe impl FromBytes for $type {}
        // SAFETY: Integers only, and without padding, as is checked below.
        unsafe impl AsBytes for $type {}

        const _: () = {
            // The pattern names all fields, or does not compile.
            const fn size_of_fields(value: &$type) -> usize {
                let $type { $($field),* } = value;
                0 $(+ size_of_val($field))*
            }
            let zero: $type = $type { $($field: 0),* };
            assert!(size_of_fields(&zero) == size_of::<$type>());
        };
    };
    ($type:ident { $($field:ident),* }, first size $size:ident, result from $result:ident) => {
        uapi_struct!($type { $($field),* });

        impl Versioned for $type {
            const FIRST_SIZE: usize = generated::$size as usize;
            const RESULT_OFFSET: usize = offset_of!($type, $result);
        }
    };
}

uapi_struct!(mlock_rs_range { addr, len });
uapi_struct!(
    mlock_rs_lock {
        addr, len, flags, __reserved, locked, populated, fail_addr, nr_vmas, error
    },
    first size MLOCK_RS_LOCK_SIZE_VER0, result from locked
);
uapi_struct!(
    mlock_rs_unlock {
        addr, len, flags, __reserved, unlocked, fail_addr, nr_vmas, error
    },
    first size MLOCK_RS_UNLOCK_SIZE_VER0, result from unlocked
);
uapi_struct!(
    mlock_rs_lockv {
        ranges, nr_ranges, flags, locked, populated, fail_addr, nr_vmas, error
    },
    first size MLOCK_RS_LOCKV_SIZE_VER0, result from locked
);
uapi_struct!(
    mlock_rs_unlockv { ranges, nr_ranges, flags, unlocked, fail_addr, nr_vmas, error },
    first size MLOCK_RS_UNLOCKV_SIZE_VER0, result from unlocked
);
uapi_struct!(
    mlock_rs_query {
        addr, len, flags, __reserved, mapped, locked, onfault, resident, nr_vmas, state, error,
        __reserved_out
    },
    first size MLOCK_RS_QUERY_SIZE_VER0, result from mapped
);
uapi_struct!(
    mlock_rs_abi { features, version, max_ranges },
    first size MLOCK_RS_ABI_SIZE_VER0, result from features
);

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

/// Read `count` elements of an array and hand each to `take`, which may end it with an error.
///
/// # Errors
///
/// EFAULT: cannot be read. Otherwise the error of `take`.
pub(crate) fn read_array<T: FromBytes>(
    array: UserPtr,
    count: usize,
    mut take: impl FnMut(T) -> Result,
) -> Result {
    let bytes = count.checked_mul(size_of::<T>()).ok_or(EINVAL)?;
    let mut reader = UserSlice::new(array, bytes).reader();
    for _ in 0..count {
        take(reader.read()?)?;
    }
    Ok(())
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
