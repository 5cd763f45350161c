// SPDX-License-Identifier: GPL-2.0

//! `/dev/mlock_rs`: memory locking with one hold of the mmap lock.
//!
//! The crate root: the module's metadata and its device, nothing else. Data flows one way, from
//! [`device`] (bytes in, bytes out) through [`lock`] (the mechanism) to [`mm`], the only place with
//! unsafe code.

#![deny(unsafe_code)]

use kernel::{
    debugfs,
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
};

mod device;
mod lock;
#[expect(unsafe_code, reason = "the one layer over the kernel's C interfaces")]
mod mm;
mod progress;
mod stats;

module! {
    type: MlockRs,
    name: "mlock_rs",
    authors: ["The mlock_rs authors"],
    description: "Memory locking with one hold of the mmap lock: write, downgrade, populate",
    license: "GPL v2",
}

#[pin_data]
struct MlockRs {
    #[pin]
    _device: MiscDeviceRegistration<device::Device>,
    #[pin]
    _totals: debugfs::File<stats::Totals>,
    _debugfs: debugfs::Dir,
    // After the device.
    _dismissals: mm::worker::Dismissals,
}

impl kernel::InPlaceModule for MlockRs {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let debugfs = debugfs::Dir::new(c"mlock_rs");

        try_pin_init!(Self {
            _dismissals: mm::worker::Dismissals::new()?,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mlock_rs" }),
            _totals <- debugfs.read_only_file(c"totals", stats::Totals),
            _debugfs: debugfs,
        })
    }
}
