// SPDX-License-Identifier: GPL-2.0

//! The device, and the calls that it takes, put together step by step.

use crate::{
    Error, Limits, Range, Rule,
    error::{Doing, Failure},
    page_size, raw, sys, uapi,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
};
use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::Duration};

/// An open `/dev/mlock_rs`. Clones share it.
#[derive(Clone, Debug)]
pub struct Device(Arc<Backend>);

#[derive(Debug)]
enum Backend {
    Module { device: OwnedFd, abi: Abi },
    Mlock { why: Error },
}

/// What the module can do, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abi {
    /// `MLOCK_RS_ABI_VERSION` of the module.
    pub version: u32,
    /// Its `MLOCK_RS_FEATURE_*` bits.
    pub features: u64,
    /// How many ranges one call can have.
    pub max_ranges: u32,
}

impl Abi {
    /// Whether the module has all of these `MLOCK_RS_FEATURE_*` bits.
    pub fn has(&self, features: u32) -> bool {
        let features = u64::from(features);
        self.features & features == features
    }
}

/// What came of a [`Lock`]. The fields are `None` with mlock(2), which does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locked {
    /// Bytes that were not locked before.
    pub newly_locked: Option<u64>,
    /// Bytes that were seen to be resident; 0 if they are to be locked on fault.
    pub populated: Option<u64>,
    /// Number of mappings in the ranges.
    pub mappings: Option<u32>,
    /// How many threads helped to populate.
    pub helpers: Option<u32>,
    /// How often the mmap lock was given up and taken again; 0 unless
    /// [`yielding`](Lock::yielding).
    pub gaps: Option<u32>,
}

/// What came of an [`Unlock`]. The fields are `None` with mlock(2), which does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unlocked {
    /// Bytes that were locked before.
    pub unlocked: Option<u64>,
    /// Number of mappings in the ranges.
    pub mappings: Option<u32>,
}

/// What a range was like at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// Bytes that are mapped.
    pub mapped: u64,
    /// Bytes in mappings that are locked, on fault or not.
    pub locked: u64,
    /// Bytes in mappings that are locked on fault.
    pub on_fault: u64,
    /// Bytes whose page is in the caller's page table.
    pub resident: u64,
    /// Number of mappings in the range.
    pub mappings: u32,
    /// All of it is mapped, locked and resident. Never true for an empty range.
    pub locked_resident: bool,
}

/// How far the calls are that run through one open device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that they are to populate, all together.
    pub wanted: u64,
    /// Bytes of them that are populated so far.
    pub populated: u64,
    /// How many calls there are.
    pub calls: u32,
}

impl Device {
    /// Open `/dev/mlock_rs`.
    ///
    /// # Errors
    ///
    /// [`Rule::NoDevice`], [`Rule::DeviceDenied`], [`Rule::NotTheDevice`].
    pub fn open() -> Result<Self, Error> {
        let path = uapi::MLOCK_RS_DEVICE.to_string_lossy();
        Self::open_at(&*path)
    }

    /// Open the device under another name.
    ///
    /// # Errors
    ///
    /// As for [`Device::open`].
    pub fn open_at(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |errno| Error::opening(path, errno);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::NOENT))?;
        let device = raw::open_at(&name).map_err(failed)?;
        let mut answer = uapi::mlock_rs_abi::default();
        raw::call(&device, &mut answer).map_err(failed)?;
        let abi = Abi {
            version: answer.version,
            features: answer.features,
            max_ranges: answer.max_ranges,
        };
        Ok(Self(Arc::new(Backend::Module { device, abi })))
    }

    /// Open `/dev/mlock_rs`, or make do with mlock(2) where that fails.
    ///
    /// What mlock(2) does not have is lost then: a success need not be true, a failure may leave
    /// half of it locked, several ranges are locked one after the other, and there is no
    /// [`query`](Device::query).
    pub fn open_or_mlock() -> Self {
        Self::open().unwrap_or_else(|why| Self(Arc::new(Backend::Mlock { why })))
    }

    /// Why mlock(2) is used instead of the module; `None` if it is not.
    pub fn fallback(&self) -> Option<&Error> {
        match &*self.0 {
            Backend::Mlock { why } => Some(why),
            Backend::Module { .. } => None,
        }
    }

    /// What the module can do; `None` with mlock(2).
    pub fn abi(&self) -> Option<Abi> {
        match &*self.0 {
            Backend::Module { abi, .. } => Some(*abi),
            Backend::Mlock { .. } => None,
        }
    }

    /// Lock memory: name the ranges, then [`run`](Lock::run).
    pub fn lock(&self) -> Lock<'_> {
        Lock {
            device: self,
            ranges: Ranges::default(),
            on_fault: false,
            workers: 0,
            slice: None,
            interruptible: false,
        }
    }

    /// Unlock memory: name the ranges, then [`run`](Unlock::run).
    pub fn unlock(&self) -> Unlock<'_> {
        Unlock {
            device: self,
            ranges: Ranges::default(),
        }
    }

    /// What `range`, which may have holes, is like.
    ///
    /// # Errors
    ///
    /// [`Rule::BadRange`]; [`Rule::NeedsModule`] with mlock(2).
    pub fn query(&self, range: Range) -> Result<Query, Error> {
        let Backend::Module { device, .. } = &*self.0 else {
            return Err(Error::of(Doing::Query, Rule::NeedsModule));
        };
        query(device.as_fd(), range)
            .map_err(|errno| Failure::without_result(errno).explain(Doing::Query))
    }

    /// How far the calls are that run now through this device and its clones, in other threads.
    /// Open the device once more to follow one call alone. It waits for nothing.
    ///
    /// # Errors
    ///
    /// [`Rule::NotSupported`] with a module older than this; [`Rule::NeedsModule`] with mlock(2).
    pub fn progress(&self) -> Result<Progress, Error> {
        let Backend::Module { device, abi } = &*self.0 else {
            return Err(Error::of(Doing::Query, Rule::NeedsModule));
        };
        supported(
            abi,
            "PROGRESS",
            uapi::MLOCK_RS_FEATURE_PROGRESS,
            Doing::Query,
        )?;
        let mut progress = uapi::mlock_rs_progress::default();
        raw::call(device, &mut progress)
            .map_err(|errno| Failure::without_result(errno).explain(Doing::Query))?;
        Ok(Progress {
            wanted: progress.wanted,
            populated: progress.populated,
            calls: progress.nr_calls,
        })
    }
}

/// Whether the module has what is asked for.
fn supported(abi: &Abi, what: &'static str, feature: u32, doing: Doing) -> Result<(), Error> {
    match abi.has(feature) {
        true => Ok(()),
        false => Err(Error::of(doing, Rule::NotSupported { what })),
    }
}

fn query(device: BorrowedFd<'_>, range: Range) -> Result<Query, Errno> {
    let mut query = uapi::mlock_rs_query {
        addr: range.addr(),
        len: range.len(),
        ..Default::default()
    };
    raw::call(device, &mut query)?;
    Ok(Query {
        mapped: query.mapped,
        locked: query.locked,
        on_fault: query.onfault,
        resident: query.resident,
        mappings: query.nr_vmas,
        locked_resident: query.state & uapi::MLOCK_RS_QUERY_LOCKED_RESIDENT != 0,
    })
}

/// The ranges of a call.
#[derive(Clone, Debug, Default)]
struct Ranges(Vec<uapi::mlock_rs_range>);

impl Ranges {
    fn add(&mut self, range: Range) {
        self.0.push(range.into());
    }

    /// How many bytes of pages they have; a page that is in two of them counts twice.
    fn page_bytes(&self) -> u64 {
        self.each()
            .fold(0, |sum, range| sum.saturating_add(range.page_bytes()))
    }

    fn each(&self) -> impl Iterator<Item = Range> {
        let of = |range: &uapi::mlock_rs_range| Range::new(range.addr as usize, range.len as usize);
        self.0.iter().map(of)
    }

    fn begin_at_0(&self) -> bool {
        self.each()
            .any(|range| !range.is_empty() && range.addr() < page_size() as u64)
    }

    fn addr(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// A call that locks, see [`Device::lock`].
#[derive(Clone, Debug)]
#[must_use = "nothing is locked before `run`"]
pub struct Lock<'d> {
    device: &'d Device,
    ranges: Ranges,
    on_fault: bool,
    /// 0 lets the module choose.
    workers: u32,
    /// How long others may wait, if it is to yield; 0 is the module's own choice.
    slice: Option<Duration>,
    interruptible: bool,
}

impl Lock<'_> {
    pub(crate) fn device(&self) -> &Device {
        self.device
    }

    /// Lock this range too.
    pub fn range(mut self, range: Range) -> Self {
        self.ranges.add(range);
        self
    }

    /// Lock these ranges too. They may be in any order, overlap and be empty.
    pub fn ranges(mut self, ranges: impl IntoIterator<Item = Range>) -> Self {
        ranges.into_iter().for_each(|range| self.ranges.add(range));
        self
    }

    /// Lock the memory of this slice too.
    pub fn slice<T>(self, slice: &[T]) -> Self {
        self.range(Range::of(slice))
    }

    /// Lock the pages when they are faulted in, instead of faulting them in now.
    pub fn on_fault(mut self) -> Self {
        self.on_fault = true;
        self
    }

    /// Let so many threads populate, the caller among them, instead of as many as the module finds
    /// useful; 1 is the caller alone. The others are threads of this process while the call lasts.
    /// If they cannot be had, or the module or the kernel cannot do that, fewer help.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Do not let other threads wait for the mmap lock longer than about a millisecond, nor for a
    /// page that waits for I/O or for a userfaultfd handler.
    ///
    /// The lock is given up now and then, so that the call no longer keeps other threads from
    /// changing the ranges. It sees it if they do, and fails with [`Rule::Changed`].
    pub fn yielding(self) -> Self {
        self.yielding_every(Duration::ZERO)
    }

    /// As [`yielding`](Self::yielding), with another time that others may wait: up to a second, in
    /// microseconds. 0 is the module's own choice.
    pub fn yielding_every(mut self, slice: Duration) -> Self {
        self.slice = Some(slice);
        self
    }

    /// Let any signal with a handler end the call, not only one that ends the process:
    /// [`Rule::Interrupted`], which says where to go on.
    pub fn interruptible(mut self) -> Self {
        self.interruptible = true;
        self
    }

    /// Lock: all ranges, in one hold of the mmap lock, at one instant.
    ///
    /// # Errors
    ///
    /// Nothing has changed after [`Rule::NotPermitted`], [`Rule::OverLimit`],
    /// [`Rule::NotMapped`], [`Rule::CannotSplit`], [`Rule::Userfaultfd`], [`Rule::BadRange`],
    /// [`Rule::TooManyRanges`], [`Rule::TooManyWorkers`], [`Rule::BadSlice`],
    /// [`Rule::NotSupported`] and [`Rule::NoMemoryForCall`]. All of the ranges are locked after
    /// [`Rule::CannotPopulate`], [`Rule::NoMemoryForPage`] and [`Rule::PeerToPeer`], but not all
    /// of them are resident; the same holds for [`Rule::Interrupted`], if it has an address, and
    /// for [`Rule::Changed`] but for what another thread has changed.
    pub fn run(self) -> Result<Locked, Error> {
        let doing = Doing::Lock {
            bytes: self.ranges.page_bytes(),
        };
        let (device, abi) = match &*self.device.0 {
            Backend::Module { device, abi } => (device.as_fd(), abi),
            Backend::Mlock { .. } => return self.with_mlock(doing),
        };
        let wanted = self.arguments(abi, doing)?;
        let (result, lock) = match self.ranges.0[..] {
            [range] => call(
                device,
                uapi::mlock_rs_lock {
                    addr: range.addr,
                    len: range.len,
                    ..wanted
                },
            ),
            _ => {
                let (result, lockv) = call(
                    device,
                    uapi::mlock_rs_lockv {
                        ranges: self.ranges.addr(),
                        nr_ranges: self.ranges.count(),
                        flags: wanted.flags,
                        nr_workers: wanted.nr_workers,
                        slice_us: wanted.slice_us,
                        ..Default::default()
                    },
                );
                let lock = uapi::mlock_rs_lock {
                    locked: lockv.locked,
                    populated: lockv.populated,
                    fail_addr: lockv.fail_addr,
                    nr_vmas: lockv.nr_vmas,
                    nr_helpers: lockv.nr_helpers,
                    nr_gaps: lockv.nr_gaps,
                    ..Default::default()
                };
                (result, lock)
            }
        };
        let Err(errno) = result else {
            return Ok(Locked {
                newly_locked: Some(lock.locked),
                populated: Some(lock.populated),
                mappings: Some(lock.nr_vmas),
                helpers: Some(lock.nr_helpers),
                gaps: Some(lock.nr_gaps),
            });
        };
        let failure = Failure {
            errno,
            changed: lock.nr_vmas > 0,
            addr: lock.fail_addr,
            populated: lock.populated,
            too_many: too_many(&self.ranges, abi),
            mapped_there: mapped_at(device, lock.fail_addr),
            hole_at_0: self.ranges.begin_at_0() && !mapped_at(device, 0),
            over_limit: Limits::now().broken_by(self.ranges.page_bytes()),
        };
        Err(failure.explain(doing))
    }

    /// What is the same for one range and for many. A module that is older refuses what it does not
    /// know; zeroes it takes.
    fn arguments(&self, abi: &Abi, doing: Doing) -> Result<uapi::mlock_rs_lock, Error> {
        let most = uapi::MLOCK_RS_MAX_WORKERS;
        if self.workers > most {
            return Err(Error::of(doing, Rule::TooManyWorkers { most }));
        }
        let mut wanted = uapi::mlock_rs_lock::default();
        if self.on_fault {
            wanted.flags |= uapi::MLOCK_RS_LOCK_ONFAULT;
        }
        if abi.has(uapi::MLOCK_RS_FEATURE_WORKERS) {
            wanted.nr_workers = self.workers;
        }
        if let Some(slice) = self.slice {
            supported(abi, "YIELD", uapi::MLOCK_RS_FEATURE_YIELD, doing)?;
            let most = uapi::MLOCK_RS_MAX_SLICE_US;
            wanted.flags |= uapi::MLOCK_RS_LOCK_YIELD;
            wanted.slice_us = match u32::try_from(slice.as_micros()) {
                // 0 would be the module's own choice, which is longer.
                Ok(0) if !slice.is_zero() => 1,
                Ok(slice) if slice <= most => slice,
                _ => return Err(Error::of(doing, Rule::BadSlice)),
            };
        }
        if self.interruptible {
            let feature = uapi::MLOCK_RS_FEATURE_INTERRUPTIBLE;
            supported(abi, "INTERRUPTIBLE", feature, doing)?;
            wanted.flags |= uapi::MLOCK_RS_LOCK_INTERRUPTIBLE;
        }
        Ok(wanted)
    }

    fn with_mlock(&self, doing: Doing) -> Result<Locked, Error> {
        for range in self.ranges.each() {
            sys::mlock(range.addr() as usize, range.len() as usize, self.on_fault).map_err(
                |errno| {
                    let over_limit = Limits::now().broken_by(range.page_bytes());
                    Error::of_mlock(doing, errno, over_limit)
                },
            )?;
        }
        Ok(Locked::default())
    }
}

/// A call that unlocks, see [`Device::unlock`].
#[derive(Clone, Debug)]
#[must_use = "nothing is unlocked before `run`"]
pub struct Unlock<'d> {
    device: &'d Device,
    ranges: Ranges,
}

impl Unlock<'_> {
    /// Unlock this range too.
    pub fn range(mut self, range: Range) -> Self {
        self.ranges.add(range);
        self
    }

    /// Unlock these ranges too. They may be in any order, overlap and be empty.
    pub fn ranges(mut self, ranges: impl IntoIterator<Item = Range>) -> Self {
        ranges.into_iter().for_each(|range| self.ranges.add(range));
        self
    }

    /// Unlock the memory of this slice too.
    pub fn slice<T>(self, slice: &[T]) -> Self {
        self.range(Range::of(slice))
    }

    /// Unlock all of the ranges or, if that fails, none.
    ///
    /// # Errors
    ///
    /// [`Rule::NotMapped`], [`Rule::CannotSplit`], [`Rule::BadRange`], [`Rule::TooManyRanges`],
    /// [`Rule::NoMemoryForCall`].
    pub fn run(self) -> Result<Unlocked, Error> {
        let (device, abi) = match &*self.device.0 {
            Backend::Module { device, abi } => (device.as_fd(), abi),
            Backend::Mlock { .. } => return self.with_munlock(),
        };
        let (result, unlock) = match self.ranges.0[..] {
            [range] => call(
                device,
                uapi::mlock_rs_unlock {
                    addr: range.addr,
                    len: range.len,
                    ..Default::default()
                },
            ),
            _ => {
                let (result, unlockv) = call(
                    device,
                    uapi::mlock_rs_unlockv {
                        ranges: self.ranges.addr(),
                        nr_ranges: self.ranges.count(),
                        ..Default::default()
                    },
                );
                let unlock = uapi::mlock_rs_unlock {
                    unlocked: unlockv.unlocked,
                    fail_addr: unlockv.fail_addr,
                    nr_vmas: unlockv.nr_vmas,
                    ..Default::default()
                };
                (result, unlock)
            }
        };
        let Err(errno) = result else {
            return Ok(Unlocked {
                unlocked: Some(unlock.unlocked),
                mappings: Some(unlock.nr_vmas),
            });
        };
        let failure = Failure {
            addr: unlock.fail_addr,
            too_many: too_many(&self.ranges, abi),
            mapped_there: mapped_at(device, unlock.fail_addr),
            hole_at_0: self.ranges.begin_at_0() && !mapped_at(device, 0),
            ..Failure::without_result(errno)
        };
        Err(failure.explain(Doing::Unlock))
    }

    fn with_munlock(&self) -> Result<Unlocked, Error> {
        for range in self.ranges.each() {
            sys::munlock(range.addr() as usize, range.len() as usize)
                .map_err(|errno| Error::of_mlock(Doing::Unlock, errno, None))?;
        }
        Ok(Unlocked::default())
    }
}

fn call<T: raw::Argument>(device: BorrowedFd<'_>, mut argument: T) -> (Result<(), Errno>, T) {
    (raw::call(device, &mut argument), argument)
}

fn too_many(ranges: &Ranges, abi: &Abi) -> Option<u32> {
    (ranges.count() > abi.max_ranges).then_some(abi.max_ranges)
}

/// Whether something is mapped at the page at `addr`: a hole and a mapping that cannot be split
/// are the same errno.
fn mapped_at(device: BorrowedFd<'_>, addr: u64) -> bool {
    query(device, Range::new(addr as usize, page_size())).is_ok_and(|page| page.mapped > 0)
}
