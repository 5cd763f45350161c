// SPDX-License-Identifier: GPL-2.0

//! A vector that takes no memory for one element: nearly all calls are for one range.
//!
//! Takes no lock.

use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::prelude::*;

/// None or one, or any number of them in memory of their own.
pub(super) enum OneOrMany<T> {
    One(Option<T>),
    Many(KVec<T>),
}

impl<T> OneOrMany<T> {
    /// Room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// ENOMEM; not for one element.
    pub(super) fn with_capacity(capacity: usize) -> Result<Self> {
        Ok(match capacity {
            0 | 1 => Self::One(None),
            _ => Self::Many(KVec::with_capacity(capacity, GFP_KERNEL)?),
        })
    }

    /// Append an element for which there is room.
    ///
    /// # Errors
    ///
    /// EINVAL: there is none.
    pub(super) fn push_within_capacity(&mut self, element: T) -> Result {
        match self {
            Self::One(slot @ None) => {
                *slot = Some(element);
                Ok(())
            }
            Self::One(Some(_)) => Err(EINVAL),
            Self::Many(many) => many.push_within_capacity(element).map_err(|_| EINVAL),
        }
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one.as_slice(),
            Self::Many(many) => many,
        }
    }
}

impl<T> DerefMut for OneOrMany<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => one.as_mut_slice(),
            Self::Many(many) => many,
        }
    }
}

#[kunit_tests(mlock_rs_one_or_many)]
mod tests {
    use super::*;

    fn filled(capacity: usize) -> Result<OneOrMany<usize>> {
        let mut vector = OneOrMany::with_capacity(capacity)?;
        for element in 0..capacity {
            vector.push_within_capacity(element)?;
        }
        Ok(vector)
    }

    #[test]
    fn it_has_what_was_put_in() -> Result {
        for (capacity, elements) in [(0, &[][..]), (1, &[0]), (2, &[0, 1]), (3, &[0, 1, 2])] {
            assert_eq!(filled(capacity)?[..], *elements);
        }
        Ok(())
    }

    #[test]
    fn elements_can_be_changed() -> Result {
        for capacity in [1, 3] {
            let mut vector = filled(capacity)?;
            vector.iter_mut().for_each(|element| *element += 7);
            assert_eq!(vector.first(), Some(&7));
        }
        Ok(())
    }

    #[test]
    fn one_has_no_room_for_another_one() -> Result {
        let mut vector = filled(1)?;

        assert_eq!(vector.push_within_capacity(1), Err(EINVAL));
        assert_eq!(vector[..], [0]);
        Ok(())
    }
}
