// SPDX-License-Identifier: GPL-2.0

//! The misc device: ioctl bytes in, result bytes out.
//!
//! Takes no lock itself. The user's argument is read before the mmap lock is taken and written
//! after it is released, because both may fault.

#![deny(unsafe_code)]

use crate::{
    lock::{
        self,
        query,
        Outcome,
        Request, //
    },
    mm::{
        uapi::{
            self,
            Versioned, //
        },
        worker, //
    },
    progress::Progress,
    stats::Stats, //
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
    seq_file::SeqFile,
    uaccess::UserPtr, //
};

/// An open file of the device. It only counts: an ioctl acts on the address space of whoever calls
/// it, however the file descriptor came to be there.
pub(crate) struct Device {
    stats: Stats,
    progress: Progress,
}

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;
    // What #[vtable] adds by itself from 7.3 on. An open file keeps the module loaded.
    type OwnerModule = crate::LocalModule;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let device = Device {
            stats: Stats::new(),
            progress: Progress::new(),
        };
        Ok(KBox::new(device, GFP_KERNEL)?)
    }

    fn ioctl(device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = Argument {
            addr: UserPtr::from_addr(arg),
            size: _IOC_SIZE(cmd),
        };
        let result = match without_size(cmd) {
            LOCK => device.change(arg, Request::lock),
            UNLOCK => device.change(arg, Request::unlock),
            LOCKV => device.change(arg, Request::lockv),
            UNLOCKV => device.change(arg, Request::unlockv),
            QUERY => device.query(arg),
            ABI => abi(arg),
            PROGRESS => device.progress(arg),
            _ => Err(ENOTTY),
        };
        result
            .map(|()| 0)
            .inspect_err(|&error| device.stats.failed(error))
    }

    fn show_fdinfo(device: &Self, m: &SeqFile, _file: &File) {
        kernel::seq_print!(m, "{}", device.stats);
    }
}

const LOCK: u32 = without_size(uapi::MLOCK_RS_LOCK);
const UNLOCK: u32 = without_size(uapi::MLOCK_RS_UNLOCK);
const LOCKV: u32 = without_size(uapi::MLOCK_RS_LOCKV);
const UNLOCKV: u32 = without_size(uapi::MLOCK_RS_UNLOCKV);
const QUERY: u32 = without_size(uapi::MLOCK_RS_QUERY);
const ABI: u32 = without_size(uapi::MLOCK_RS_ABI);
const PROGRESS: u32 = without_size(uapi::MLOCK_RS_PROGRESS);

/// What makes an ioctl number the same one, whatever size of the argument its caller was built
/// with.
const fn without_size(cmd: u32) -> u32 {
    (_IOC_DIR(cmd) << 16) | (_IOC_TYPE(cmd) << 8) | _IOC_NR(cmd)
}

/// Where an ioctl's argument is, and how long its caller thinks it is.
#[derive(Clone, Copy)]
struct Argument {
    addr: UserPtr,
    size: usize,
}

impl Argument {
    fn read<T: Versioned>(self) -> Result<T> {
        uapi::read_struct(self.addr, self.size)
    }

    fn write_result<T: Versioned>(self, value: &T) -> Result {
        uapi::write_result(self.addr, self.size, value)
    }
}

impl Device {
    /// LOCK, UNLOCK, LOCKV, UNLOCKV.
    fn change<T>(&self, arg: Argument, parse: fn(&T) -> Result<Request>) -> Result
    where
        T: Versioned + ChangeResult,
    {
        let mut value: T = arg.read()?;
        let outcome = match parse(&value) {
            Ok(request) => {
                let outcome = lock::run(&request, &self.progress);
                self.stats.changed(&outcome, T::UNLOCKS);
                outcome
            }
            Err(error) => error.into(),
        };

        value.set_result(&outcome);
        let written = arg.write_result(&value);
        // What went wrong with the range is worth more to the caller than what went wrong with
        // the answer.
        outcome.result().and(written)
    }

    /// QUERY.
    fn query(&self, arg: Argument) -> Result {
        let mut value: uapi::mlock_rs_query = arg.read()?;
        let (answer, result) = match query::run(&value) {
            Ok(answer) => {
                self.stats.queried();
                (answer, Ok(()))
            }
            Err(error) => (query::Answer::default(), Err(error)),
        };
        value.mapped = answer.mapped;
        value.locked = answer.locked;
        value.onfault = answer.onfault;
        value.resident = answer.resident;
        value.nr_vmas = answer.nr_vmas;
        value.state = match answer.locked_resident {
            true => uapi::MLOCK_RS_QUERY_LOCKED_RESIDENT,
            false => 0,
        };
        value.error = result.err().map_or(0, |e| e.to_errno().unsigned_abs());
        value.__reserved_out = 0;
        let written = arg.write_result(&value);
        result.and(written)
    }
}

impl Device {
    /// PROGRESS.
    fn progress(&self, arg: Argument) -> Result {
        let mut value: uapi::mlock_rs_progress = arg.read()?;
        let (now, result) = match value.flags == 0 && value.__reserved == 0 {
            true => (self.progress.now(), Ok(())),
            false => ((0, 0, 0), Err(EINVAL)),
        };
        (value.nr_calls, value.wanted, value.populated) = now;
        value.__reserved_out = 0;
        let written = arg.write_result(&value);
        result.and(written)
    }
}

/// ABI.
fn abi(arg: Argument) -> Result {
    let mut value: uapi::mlock_rs_abi = arg.read()?;
    value.version = uapi::MLOCK_RS_ABI_VERSION;
    value.max_ranges = uapi::MLOCK_RS_MAX_RANGES;
    value.features = u64::from(
        uapi::MLOCK_RS_FEATURE_LOCK
            | uapi::MLOCK_RS_FEATURE_ONFAULT
            | uapi::MLOCK_RS_FEATURE_VECTOR
            | uapi::MLOCK_RS_FEATURE_QUERY
            | uapi::MLOCK_RS_FEATURE_YIELD
            | uapi::MLOCK_RS_FEATURE_INTERRUPTIBLE
            | uapi::MLOCK_RS_FEATURE_PROGRESS
            | match worker::AVAILABLE {
                true => uapi::MLOCK_RS_FEATURE_WORKERS,
                false => 0,
            },
    );
    arg.write_result(&value)
}

/// A structure whose result fields tell an [`Outcome`].
trait ChangeResult {
    /// Whether the ioctl unlocks.
    const UNLOCKS: bool;

    fn set_result(&mut self, outcome: &Outcome);
}

macro_rules! change_result {
    ($type:ident, unlocks: $unlocks:literal, $changed:ident $(, $populating:ident)*) => {
        impl ChangeResult for uapi::$type {
            const UNLOCKS: bool = $unlocks;

            fn set_result(&mut self, outcome: &Outcome) {
                self.$changed = outcome.changed;
                $(self.$populating = outcome.$populating;)*
                self.fail_addr = outcome.fail_addr();
                self.nr_vmas = outcome.nr_vmas;
                self.error = outcome.errno();
            }
        }
    };
}

change_result!(mlock_rs_lock, unlocks: false, locked, populated, nr_helpers, nr_gaps);
change_result!(mlock_rs_lockv, unlocks: false, locked, populated, nr_helpers, nr_gaps);
change_result!(mlock_rs_unlock, unlocks: true, unlocked);
change_result!(mlock_rs_unlockv, unlocks: true, unlocked);

#[kunit_tests(mlock_rs_device)]
mod tests {
    use super::*;
    use kernel::ioctl::{
        _IO,
        _IOR,
        _IOW,
        _IOWR, //
    };

    const KNOWN: [u32; 7] = [
        uapi::MLOCK_RS_LOCK,
        uapi::MLOCK_RS_UNLOCK,
        uapi::MLOCK_RS_LOCKV,
        uapi::MLOCK_RS_UNLOCKV,
        uapi::MLOCK_RS_QUERY,
        uapi::MLOCK_RS_ABI,
        uapi::MLOCK_RS_PROGRESS,
    ];

    #[test]
    fn an_ioctl_is_the_same_with_any_size() {
        for cmd in KNOWN {
            let (ty, nr) = (_IOC_TYPE(cmd), _IOC_NR(cmd));
            for sized in [
                _IOWR::<u8>(ty, nr),
                _IOWR::<[u64; 100]>(ty, nr),
                _IOWR::<[u8; 16383]>(ty, nr),
            ] {
                assert_eq!(without_size(sized), without_size(cmd));
            }
        }
    }

    #[test]
    fn ioctls_differ_in_everything_else() {
        for (index, &cmd) in KNOWN.iter().enumerate() {
            let (ty, nr) = (_IOC_TYPE(cmd), _IOC_NR(cmd));
            for other in [
                _IO(ty, nr),
                _IOR::<u64>(ty, nr),
                _IOW::<u64>(ty, nr),
                _IOWR::<u64>(ty ^ 1, nr),
                _IOWR::<u64>(ty, nr | 0x80),
            ] {
                assert!(without_size(other) != without_size(cmd));
            }
            for &other in KNOWN.iter().skip(index + 1) {
                assert!(without_size(other) != without_size(cmd));
            }
        }
    }

    #[test]
    fn a_failure_overwrites_the_result() {
        let mut value = uapi::mlock_rs_lock {
            addr: 1,
            len: 2,
            flags: 3,
            __reserved: 4,
            locked: 5,
            populated: 6,
            fail_addr: 7,
            nr_vmas: 8,
            error: 9,
            nr_workers: 10,
            slice_us: 11,
            nr_helpers: 12,
            nr_gaps: 13,
        };
        value.set_result(&ENOMEM.into());

        assert_eq!(
            (value.addr, value.len, value.flags, value.__reserved),
            (1, 2, 3, 4)
        );
        assert_eq!(
            (
                value.locked,
                value.populated,
                value.fail_addr,
                value.nr_vmas
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(value.error, ENOMEM.to_errno().unsigned_abs());
        assert_eq!(
            (
                value.nr_workers,
                value.slice_us,
                value.nr_helpers,
                value.nr_gaps
            ),
            (10, 11, 0, 0)
        );
    }
}
