// SPDX-License-Identifier: GPL-2.0

//! The ioctls as they are, for those who cannot have more: nothing here allocates, keeps a file
//! open or looks at anything but the device. [`Device`](crate::Device) is for all others.

use crate::{sys, uapi};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
};
use std::ffi::CStr;

/// A structure of the header that is the argument of one ioctl.
pub trait Argument: sys::Argument {}
impl<T: sys::Argument> Argument for T {}

/// Open the device.
pub fn open() -> Result<OwnedFd, Errno> {
    open_at(uapi::MLOCK_RS_DEVICE)
}

/// Open the device under another name.
pub fn open_at(path: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Make the call that `argument` is for. Its result fields are filled in also if it fails.
///
/// Any argument is safe: the kernel neither reads nor writes the memory that it locks, and a wrong
/// address is an errno.
///
/// ```no_run
/// use mlock_rs::{raw, uapi::mlock_rs_abi};
///
/// # fn main() -> Result<(), rustix::io::Errno> {
/// let mut abi = mlock_rs_abi::default();
/// raw::call(raw::open()?, &mut abi)?;
/// println!("version {}, up to {} ranges", abi.version, abi.max_ranges);
/// # Ok(())
/// # }
/// ```
pub fn call<T: Argument>(device: impl AsFd, argument: &mut T) -> Result<(), Errno> {
    sys::call(device.as_fd(), argument)
}
