// SPDX-License-Identifier: GPL-2.0

//! Shows a piece of kernel memory, as it is when the module is loaded, in debugfs: `peek/memory`.
//!
//! For the VM only. The counters of a module that counts how often its lines are reached are read
//! with it; see tools/guest/counters.

use core::borrow::Borrow;
use kernel::{
    debugfs,
    prelude::*, //
};

module! {
    type: Peek,
    name: "peek",
    authors: ["The mlock_rs authors"],
    description: "Shows a piece of kernel memory in debugfs",
    license: "GPL v2",
    params: {
        address: usize {
            default: 0,
            description: "Address of the first byte",
        },
        length: usize {
            default: 0,
            description: "How many bytes",
        },
    },
}

#[pin_data]
struct Peek {
    #[pin]
    _file: debugfs::File<KVec<u8>>,
    _dir: debugfs::Dir,
}

impl kernel::InPlaceModule for Peek {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let dir = debugfs::Dir::new(c"peek");

        try_pin_init!(Self {
            _file <- dir.read_binary_file(c"memory", memory()?),
            _dir: dir,
        })
    }
}

/// The value of a parameter, of which 7.2 returns a reference and later kernels a copy.
fn number(value: impl Borrow<usize>) -> usize {
    *value.borrow()
}

/// A copy of the memory that the parameters name.
fn memory() -> Result<KVec<u8>> {
    let address = number(module_parameters::address.value()) as *const u8;
    let length = number(module_parameters::length.value());
    // SAFETY: Who loads the module promises that this is memory, and that nobody writes to it
    // meanwhile.
    let bytes = unsafe { core::slice::from_raw_parts(address, length) };

    let mut copy = KVec::new();
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}
