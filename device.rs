// SPDX-License-Identifier: GPL-2.0

//! The misc device: ioctl bytes in, result bytes out.
//!
//! Takes no lock itself. The user's argument is read before the mmap lock is taken and written
//! after it is released, because both may fault.

#![deny(unsafe_code)]

use crate::{
    lock::{
        self,
        Outcome,
        Request, //
    },
    mm::uapi, //
};
use kernel::{
    fs::File,
    ioctl::{
        _IOC_DIR,
        _IOC_NR,
        _IOC_SIZE,
        _IOC_TYPE, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*,
    uaccess::UserPtr, //
};

/// An open file of the device. It holds no state: an ioctl acts on the address space of whoever
/// calls it, however the file descriptor came to be there.
pub(crate) struct Device;

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(KBox::new(Device, GFP_KERNEL)?)
    }

    fn ioctl(_device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        if is_same_ioctl(cmd, uapi::MLOCK_RS_LOCK) {
            lock(UserPtr::from_addr(arg), _IOC_SIZE(cmd))
        } else {
            Err(ENOTTY)
        }
    }
}

/// Whether `cmd` is the ioctl `known`, whatever size of the argument its caller was built with.
fn is_same_ioctl(cmd: u32, known: u32) -> bool {
    _IOC_DIR(cmd) == _IOC_DIR(known)
        && _IOC_TYPE(cmd) == _IOC_TYPE(known)
        && _IOC_NR(cmd) == _IOC_NR(known)
}

/// `MLOCK_RS_LOCK`.
fn lock(arg: UserPtr, size: usize) -> Result<isize> {
    let mut lock: uapi::mlock_rs_lock = uapi::read_struct(arg, size)?;

    let outcome = match Request::parse(&lock) {
        Ok(request) => lock::run(&request),
        Err(error) => Outcome::refused(error),
    };

    lock.locked = outcome.locked;
    lock.populated = outcome.populated;
    lock.fail_addr = outcome.fail_addr;
    lock.nr_vmas = outcome.nr_vmas;
    lock.error = outcome.errno();
    let written = uapi::write_result(arg, size, &lock);

    // What went wrong with the range is worth more to the caller than what went wrong with the
    // answer.
    outcome.result.and(written).map(|()| 0)
}
