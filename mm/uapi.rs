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
    mlock_rs_progress,
    mlock_rs_query,
    mlock_rs_range,
    mlock_rs_unlock,
    mlock_rs_unlockv,
    MLOCK_RS_ABI_VERSION,
    MLOCK_RS_DEFAULT_SLICE_US,
    MLOCK_RS_FEATURE_INTERRUPTIBLE,
    MLOCK_RS_FEATURE_LOCK,
    MLOCK_RS_FEATURE_ONFAULT,
    MLOCK_RS_FEATURE_PROGRESS,
    MLOCK_RS_FEATURE_QUERY,
    MLOCK_RS_FEATURE_VECTOR,
    MLOCK_RS_FEATURE_WORKERS,
    MLOCK_RS_FEATURE_YIELD,
    MLOCK_RS_LOCK_INTERRUPTIBLE,
    MLOCK_RS_LOCK_ONFAULT,
    MLOCK_RS_LOCK_YIELD,
    MLOCK_RS_MAX_RANGES,
    MLOCK_RS_MAX_SLICE_US,
    MLOCK_RS_MAX_WORKERS,
    MLOCK_RS_QUERY_LOCKED_RESIDENT, //
};

// bindgen puts the name of the enum in front.
pub(crate) use generated::{
    mlock_rs_ioctl_MLOCK_RS_ABI as MLOCK_RS_ABI,
    mlock_rs_ioctl_MLOCK_RS_LOCK as MLOCK_RS_LOCK,
    mlock_rs_ioctl_MLOCK_RS_LOCKV as MLOCK_RS_LOCKV,
    mlock_rs_ioctl_MLOCK_RS_PROGRESS as MLOCK_RS_PROGRESS,
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
        addr, len, flags, __reserved, locked, populated, fail_addr, nr_vmas, error, nr_workers,
        slice_us, nr_helpers, nr_gaps
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
        ranges, nr_ranges, flags, locked, populated, fail_addr, nr_vmas, error, nr_workers,
        slice_us, nr_helpers, nr_gaps
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
    mlock_rs_progress { flags, __reserved, wanted, populated, nr_calls, __reserved_out },
    first size MLOCK_RS_PROGRESS_SIZE_VER0, result from wanted
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

/// So many elements of an array are copied at a time.
const AT_ONCE: usize = 32;

/// Read `count` elements of an array and hand each to `take`, which may end it with an error.
///
/// # Errors
///
/// EFAULT: cannot be read; `take` may not have got all that comes before. Otherwise its error.
pub(crate) fn read_array<T: FromBytes>(
    array: UserPtr,
    count: usize,
    mut take: impl FnMut(T) -> Result,
) -> Result {
    let bytes = count.checked_mul(size_of::<T>()).ok_or(EINVAL)?;
    let mut reader = UserSlice::new(array, bytes).reader();
    while reader.len() >= size_of::<[T; AT_ONCE]>() {
        let elements: [T; AT_ONCE] = reader.read()?;
        elements.into_iter().try_for_each(&mut take)?;
    }
    while !reader.is_empty() {
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

#[kunit_tests(mlock_rs_uapi)]
mod tests {
    use super::*;
    use kernel::ioctl::_IOC_SIZE;

    /// Whether the size of a structure follows the rules. The ioctl's number has it too.
    fn is_versioned<T: Versioned>(cmd: u32) -> bool {
        size_of::<T>() == _IOC_SIZE(cmd)
            && size_of::<T>() >= T::FIRST_SIZE
            // Same layout for 32-bit callers, without padding at the end.
            && T::FIRST_SIZE % size_of::<u64>() == 0
            // The first version had a result.
            && T::RESULT_OFFSET < T::FIRST_SIZE
    }

    #[test]
    fn structures_have_the_size_of_their_ioctl() {
        assert!(is_versioned::<mlock_rs_lock>(MLOCK_RS_LOCK));
        assert!(is_versioned::<mlock_rs_unlock>(MLOCK_RS_UNLOCK));
        assert!(is_versioned::<mlock_rs_lockv>(MLOCK_RS_LOCKV));
        assert!(is_versioned::<mlock_rs_unlockv>(MLOCK_RS_UNLOCKV));
        assert!(is_versioned::<mlock_rs_query>(MLOCK_RS_QUERY));
        assert!(is_versioned::<mlock_rs_abi>(MLOCK_RS_ABI));
        assert!(is_versioned::<mlock_rs_progress>(MLOCK_RS_PROGRESS));
    }

    /// Nothing is mapped at address 0, so that a look at the argument would be EFAULT.
    fn read<T: Versioned>(size: usize) -> Option<Error> {
        read_struct::<T>(UserPtr::from_addr(0), size).err()
    }

    #[test]
    fn less_than_the_first_version_is_not_even_read() {
        assert_eq!(
            read::<mlock_rs_lock>(mlock_rs_lock::FIRST_SIZE - 1),
            Some(EINVAL)
        );
        assert_eq!(
            read::<mlock_rs_query>(mlock_rs_query::FIRST_SIZE - 1),
            Some(EINVAL)
        );
        assert_eq!(read::<mlock_rs_abi>(0), Some(EINVAL));
    }

    #[test]
    fn no_result_is_written_into_less_than_the_arguments() {
        let value = mlock_rs_lock::default();
        let size = mlock_rs_lock::RESULT_OFFSET - 1;

        assert_eq!(
            write_result(UserPtr::from_addr(0), size, &value),
            Err(EINVAL)
        );
    }

    #[test]
    fn an_array_of_nothing_is_not_read() {
        let none = read_array(UserPtr::from_addr(0), 0, |_: mlock_rs_range| Err(EINVAL));
        let too_many = read_array(
            UserPtr::from_addr(0),
            usize::MAX,
            |_: mlock_rs_range| Ok(()),
        );

        assert_eq!(none, Ok(()));
        assert_eq!(too_many, Err(EINVAL));
    }
}
