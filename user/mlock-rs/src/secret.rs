// SPDX-License-Identifier: GPL-2.0

//! Secrets: memory that is locked before anything is written to it and zeroed before it goes.

use crate::{Device, Error, Range, error::Doing, sys::Slots};
use std::{
    fmt,
    io::{self, Write},
    ops::{Deref, DerefMut},
};
use zeroize::Zeroize;

/// A vector in pages of its own, which are locked, resident, left out of core dumps, and zeroed
/// when their elements go.
///
/// It grows by moving to a larger place, which is locked first; that can fail, so that there is
/// [`try_push`](Self::try_push) and no `push`. At least one page is used.
pub struct LockedVec<T: Zeroize> {
    device: Device,
    slots: Slots<T>,
}

impl<T: Zeroize> LockedVec<T> {
    /// An empty vector with room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run).
    pub fn with_capacity(device: &Device, capacity: usize) -> Result<Self, Error> {
        let slots = Slots::new(capacity).map_err(|errno| Error::other(Doing::Map, errno))?;
        let mapping = slots.mapping();
        device
            .lock()
            .range(Range::new(mapping.addr(), mapping.len()))
            .run()?;
        Ok(Self {
            device: device.clone(),
            slots,
        })
    }

    /// How many elements there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The locked pages.
    pub fn range(&self) -> Range {
        let mapping = self.slots.mapping();
        Range::new(mapping.addr(), mapping.len())
    }

    /// Put an element behind the others.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run) if there is no room left; nothing has changed then,
    /// and the element is zeroed and dropped.
    pub fn try_push(&mut self, value: T) -> Result<(), Error> {
        let Err(mut value) = self.slots.push(value) else {
            return Ok(());
        };
        if let Err(error) = self.reserve(1) {
            value.zeroize();
            return Err(error);
        }
        let full = self.slots.push(value);
        debug_assert!(full.is_ok());
        Ok(())
    }

    /// Make room for `more` elements than there are.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run); nothing has changed then.
    pub fn reserve(&mut self, more: usize) -> Result<(), Error> {
        let wanted = self.len().saturating_add(more);
        if wanted <= self.capacity() {
            return Ok(());
        }
        let capacity = wanted.max(self.capacity().saturating_mul(2));
        let mut larger = Self::with_capacity(&self.device, capacity)?;
        larger.slots.take_all(&mut self.slots);
        *self = larger;
        Ok(())
    }

    /// Take the last element out. It is not locked any more.
    pub fn pop(&mut self) -> Option<T> {
        self.slots.pop()
    }

    /// Zero and drop the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if let Some(gone) = self.get_mut(len..) {
            for value in gone {
                value.zeroize();
            }
        }
        self.slots.truncate(len);
    }

    /// Zero and drop all elements.
    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

impl<T: Zeroize + Clone> LockedVec<T> {
    /// A copy of `values`, which are left as they are.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run).
    pub fn from_slice(device: &Device, values: &[T]) -> Result<Self, Error> {
        let mut vec = Self::with_capacity(device, values.len())?;
        vec.extend_from_slice(values)?;
        Ok(vec)
    }

    /// Put copies of `values` behind the elements.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run) if there is no room left; nothing has changed then.
    pub fn extend_from_slice(&mut self, values: &[T]) -> Result<(), Error> {
        self.reserve(values.len())?;
        for value in values {
            self.try_push(value.clone())?;
        }
        Ok(())
    }
}

impl<T: Zeroize + Clone + Default> LockedVec<T> {
    /// `len` times the default, which is 0 for numbers: to be filled in place.
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run).
    pub fn zeroed(device: &Device, len: usize) -> Result<Self, Error> {
        let mut vec = Self::with_capacity(device, len)?;
        for _ in 0..len {
            vec.try_push(T::default())?;
        }
        Ok(vec)
    }
}

impl<T: Zeroize> Deref for LockedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.slots.as_slice()
    }
}

impl<T: Zeroize> DerefMut for LockedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.slots.as_mut_slice()
    }
}

impl<T: Zeroize> Drop for LockedVec<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T: Zeroize> Zeroize for LockedVec<T> {
    fn zeroize(&mut self) {
        self.clear();
    }
}

/// Says how long it is, not what is in it.
impl<T: Zeroize> fmt::Debug for LockedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedVec({} elements)", self.len())
    }
}

/// Writes behind the bytes that are there.
impl Write for LockedVec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One value in pages of its own, like [`LockedVec`].
pub struct LockedBox<T: Zeroize>(LockedVec<T>);

impl<T: Zeroize> LockedBox<T> {
    /// Lock a place and move `value` there.
    ///
    /// The place where `value` was before may keep a copy, as after any move in Rust; see
    /// [`LockedBox::with`].
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run); `value` is zeroed then.
    pub fn new(device: &Device, mut value: T) -> Result<Self, Error> {
        let mut place = match LockedVec::with_capacity(device, 1) {
            Ok(place) => place,
            Err(error) => {
                value.zeroize();
                return Err(error);
            }
        };
        place.try_push(value)?;
        Ok(Self(place))
    }

    /// Lock a place, put the default there, and let `fill` make the secret of it, in place.
    ///
    /// ```no_run
    /// # use mlock_rs::{Device, LockedBox};
    /// # fn derive_key(_: &mut [u8; 32]) {}
    /// # fn main() -> Result<(), mlock_rs::Error> {
    /// let key = LockedBox::<[u8; 32]>::with(&Device::open()?, derive_key)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Lock::run`](crate::Lock::run).
    pub fn with(device: &Device, fill: impl FnOnce(&mut T)) -> Result<Self, Error>
    where
        T: Default,
    {
        let mut place = Self::new(device, T::default())?;
        fill(&mut place);
        Ok(place)
    }

    /// The locked pages.
    pub fn range(&self) -> Range {
        self.0.range()
    }
}

impl<T: Zeroize> Deref for LockedBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T: Zeroize> DerefMut for LockedBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

/// Does not say what is in it.
impl<T: Zeroize> fmt::Debug for LockedBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBox(..)")
    }
}
