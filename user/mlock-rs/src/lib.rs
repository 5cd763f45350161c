// SPDX-License-Identifier: GPL-2.0

//! Lock memory with `/dev/mlock_rs`: one hold of the mmap lock, all or nothing.
//!
//! `mlock(2)` gives up the mmap lock between marking a range and faulting it in. Meanwhile another
//! thread can replace part of it, and the call still returns 0. The `mlock_rs` kernel module does
//! not: if a call here returns `Ok`, there was an instant before it returned at which every page
//! of the range was mapped, locked and resident. If it fails before it populates, nothing has
//! changed; [`Error::nothing_changed`] says which it was.
//!
//! # A secret
//!
//! [`LockedBox`] and [`LockedVec`] have pages of their own, locked before anything is written to
//! them, left out of core dumps, and zeroed when they go.
//!
//! ```no_run
//! use mlock_rs::{Device, LockedVec};
//! use std::{fs::File, io::Read};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open()?;
//! let mut key = LockedVec::zeroed(&device, 32)?;
//! File::open("/dev/urandom")?.read_exact(&mut key)?;
//! # Ok(())
//! # }
//! ```
//!
//! # A buffer that is there already
//!
//! ```no_run
//! use mlock_rs::{Device, LockedRegion};
//!
//! # fn main() -> Result<(), mlock_rs::Error> {
//! let device = Device::open()?;
//! let mut buffer = vec![0u8; 1 << 20];
//! {
//!     let mut locked = LockedRegion::new(&device, buffer.as_mut_slice())?;
//!     locked[0] = 1;
//! } // unlocked here
//! # Ok(())
//! # }
//! ```
//!
//! # A file
//!
//! ```no_run
//! use mlock_rs::{Device, FileMapping, LockedRegion};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open()?;
//! let file = FileMapping::open("/usr/bin/qemu-system-x86_64")?;
//! let locked = LockedRegion::new(&device, file)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Several ranges at one instant, on fault, and what came of it
//!
//! ```no_run
//! use mlock_rs::{Device, Range};
//!
//! # fn main() -> Result<(), mlock_rs::Error> {
//! # let (rings, pool) = ([0u8; 8192], [0u8; 8192]);
//! let device = Device::open()?;
//! let done = device.lock().slice(&rings).slice(&pool).run()?;
//! println!("{:?} bytes newly locked", done.newly_locked);
//!
//! device.lock().range(Range::of(&pool)).on_fault().run()?;
//! assert!(device.query(Range::of(&rings))?.locked_resident);
//! device.unlock().slice(&rings).slice(&pool).run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Much memory, and other threads that cannot wait
//!
//! Several threads populate if the range is worth it; [`workers`](Lock::workers) says how many.
//! While a call runs, other threads of the process wait in `mmap(2)`, `munmap(2)` and the like.
//! [`yielding`](Lock::yielding) lets them in; what they change in the range then makes the call
//! fail. [`progress`](Device::progress) says how far it is.
//!
//! ```no_run
//! use mlock_rs::{Device, FileMapping};
//! use std::{thread, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::open()?;
//! let file = FileMapping::open("/srv/index")?;
//! thread::scope(|scope| {
//!     let lock = device.lock().range(file.range()).workers(4).yielding().interruptible();
//!     let call = scope.spawn(|| lock.run());
//!     while !call.is_finished() {
//!         if let Ok(progress) = device.progress() {
//!             println!("{} of {} bytes", progress.populated, progress.wanted);
//!         }
//!         thread::sleep(Duration::from_millis(100));
//!     }
//!     call.join().expect("no panic")
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # When it fails
//!
//! An [`Error`] says which [`Rule`] was hit and, by [`Error::remedy`], what to do about it. `{}`
//! prints the one, `{:#}` both:
//!
//! ```no_run
//! # fn main() {
//! # let device = mlock_rs::Device::open().unwrap();
//! # let buffer = [0u8; 8192];
//! if let Err(error) = device.lock().slice(&buffer).run() {
//!     eprintln!("{error:#}");
//! }
//! # }
//! ```
//!
//! # Without the module
//!
//! [`Device::open`] fails. A program that would rather have `mlock(2)` than nothing asks for it,
//! and can see what it got:
//!
//! ```no_run
//! let device = mlock_rs::Device::open_or_mlock();
//! if let Some(why) = device.fallback() {
//!     eprintln!("using mlock(2): {why}");
//! }
//! ```
//!
//! # What to know about locks
//!
//! As with `mlock(2)`: locks are on whole pages and do not stack, so that unlocking a buffer
//! unlocks its neighbours on the same pages; a child of `fork(2)` does not inherit them.

mod device;
mod error;
mod file;
mod limits;
mod range;
pub mod raw;
mod region;
mod secret;
mod sys;
#[expect(
    missing_docs,
    non_camel_case_types,
    reason = "generated from the header, which has the documentation"
)]
pub mod uapi;

pub use device::{Abi, Device, Lock, Locked, Progress, Query, Unlock, Unlocked};
pub use error::{Error, Result, Rule};
pub use file::FileMapping;
pub use limits::Limits;
pub use range::{Range, page_size};
pub use region::{Lockable, LockedRegion};
pub use secret::{LockedBox, LockedVec};
