// SPDX-License-Identifier: GPL-2.0

//! Memory that is locked as long as somebody holds on to it.

use crate::{Device, Error, FileMapping, Lock, Range};
use std::ops::{Deref, DerefMut};

/// Memory that can be locked: its bytes stay where they are when the value moves.
pub trait Lockable: sealed::Lockable {}

mod sealed {
    use super::{FileMapping, Range};

    pub trait Lockable {
        fn range(&self) -> Range;
    }

    macro_rules! lockable {
        ($($type:ty),*) => {$(
            impl Lockable for $type {
                fn range(&self) -> Range {
                    Range::of::<[u8]>(self)
                }
            }
            impl super::Lockable for $type {}
        )*};
    }

    lockable!(&[u8], &mut [u8], Box<[u8]>, Vec<u8>);

    impl Lockable for FileMapping {
        fn range(&self) -> Range {
            FileMapping::range(self)
        }
    }
    impl super::Lockable for FileMapping {}
}

/// Locked memory; unlocked when dropped.
///
/// Locks are on whole pages and do not stack: dropping a region unlocks all of the pages that it
/// touches, also for others who locked them. Memory that starts and ends at a page has no such
/// neighbours; [`LockedVec`](crate::LockedVec) brings its own.
#[derive(Debug)]
pub struct LockedRegion<M: Lockable> {
    // In this order, so that it is unlocked before it goes.
    hold: Hold,
    memory: M,
}

/// The lock alone.
#[derive(Debug)]
struct Hold {
    device: Device,
    range: Range,
}

impl Hold {
    fn release(mut self) -> Result<(), Error> {
        let range = std::mem::replace(&mut self.range, NOTHING);
        self.device.unlock().range(range).run().map(drop)
    }

    fn disarm(mut self) {
        self.range = NOTHING;
    }
}

const NOTHING: Range = Range::new(0, 0);

impl Drop for Hold {
    fn drop(&mut self) {
        if self.range != NOTHING {
            let _ = self.device.unlock().range(self.range).run();
        }
    }
}

impl<M: Lockable> LockedRegion<M> {
    /// Lock `memory` and fault it in.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run); the memory is unlocked then.
    pub fn new(device: &Device, memory: M) -> Result<Self, Error> {
        Self::with(device.lock(), memory)
    }

    /// Lock the pages of `memory` when they are faulted in.
    ///
    /// # Errors
    ///
    /// As for [`LockedRegion::new`].
    pub fn on_fault(device: &Device, memory: M) -> Result<Self, Error> {
        Self::with(device.lock().on_fault(), memory)
    }

    /// Lock `memory` as `lock` has it: by several threads, yielding, on fault. Ranges that `lock`
    /// names itself are locked too, and are not unlocked with the memory.
    ///
    /// ```no_run
    /// use mlock_rs::{Device, FileMapping, LockedRegion};
    ///
    /// # fn main() -> Result<(), mlock_rs::Error> {
    /// let device = Device::open()?;
    /// let file = FileMapping::open("/srv/index")?;
    /// let locked = LockedRegion::with(device.lock().workers(4).yielding(), file)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`LockedRegion::new`].
    pub fn with(lock: Lock<'_>, memory: M) -> Result<Self, Error> {
        let hold = Hold {
            device: lock.device().clone(),
            range: memory.range(),
        };
        match lock.range(hold.range).run() {
            Ok(_) => Ok(Self { hold, memory }),
            Err(error) => {
                // What was locked before by somebody else is to stay so if nothing changed.
                if error.nothing_changed() {
                    hold.disarm();
                }
                Err(error)
            }
        }
    }

    /// Where it is.
    pub fn range(&self) -> Range {
        self.hold.range
    }

    /// Unlock it now, and have the memory back.
    ///
    /// # Errors
    ///
    /// As for [`Unlock::run`](crate::Unlock::run).
    pub fn unlock(self) -> Result<M, Error> {
        self.hold.release()?;
        Ok(self.memory)
    }
}

impl<M: Lockable + Deref<Target = [u8]>> Deref for LockedRegion<M> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl<M: Lockable + DerefMut<Target = [u8]>> DerefMut for LockedRegion<M> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}
