// SPDX-License-Identifier: GPL-2.0

//! A request: what the caller asks for, checked so far that it cannot be wrong any more.
//!
//! Takes no lock and looks at no VMA.

use crate::mm::{
    uapi::mlock_rs_lock,
    untagged_addr,
    LockMode,
    PageRange, //
};
use kernel::prelude::*;

/// A parsed `struct mlock_rs_lock`.
pub(crate) struct Request {
    mode: LockMode,
    /// `None`: an empty range, which mlock(2) accepts.
    range: Option<PageRange>,
}

impl Request {
    /// Check an argument.
    ///
    /// # Errors
    ///
    /// EINVAL: an unknown flag, a reserved field that is not zero, or a range that does not fit
    /// into the address space. (mlock(2) lets a length near the maximum wrap around to 0 and
    /// returns success.)
    pub(crate) fn parse(lock: &mlock_rs_lock) -> Result<Self> {
        if lock.flags != 0 || lock.__reserved != 0 {
            return Err(EINVAL);
        }

        let addr = untagged_addr(usize::try_from(lock.addr)?);
        let len = usize::try_from(lock.len)?;
        Ok(Self {
            mode: LockMode::Resident,
            range: PageRange::covering(addr, len)?,
        })
    }

    pub(crate) fn range(&self) -> Option<PageRange> {
        self.range
    }

    pub(crate) fn mode(&self) -> LockMode {
        self.mode
    }

    /// Whether the call faults pages in.
    pub(crate) fn populates(&self) -> bool {
        matches!(self.mode, LockMode::Resident)
    }
}
