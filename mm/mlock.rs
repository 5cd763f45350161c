// SPDX-License-Identifier: GPL-2.0

//! The functions of `mm/mlock.c`, as bindgen reads them in `mm/mlock.h`.

#![allow(
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all
)]

use kernel::bindings::mm_struct;

include!(env!("MLOCK_RS_MLOCK"));
