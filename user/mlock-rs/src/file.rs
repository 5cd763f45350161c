// SPDX-License-Identifier: GPL-2.0

//! A file that is mapped in order to lock it.

use crate::{Error, Range, error::Doing, sys::Mapping};
use rustix::io::Errno;
use std::{fs::File, path::Path};

/// A file, mapped to read, whole. Its bytes cannot be looked at, because somebody else may change
/// the file; locking it keeps it in the page cache.
#[derive(Debug)]
pub struct FileMapping {
    mapping: Mapping,
}

impl FileMapping {
    /// Open a file and map it.
    ///
    /// # Errors
    ///
    /// What `open(2)` says, and as for [`FileMapping::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        match File::open(path) {
            Ok(file) => Self::new(&file),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
                Err(Error::other(Doing::Map, errno))
            }
        }
    }

    /// Map `file` as long as it is now.
    ///
    /// # Errors
    ///
    /// What `fstat(2)` and `mmap(2)` say. An empty file cannot be mapped.
    pub fn new(file: &File) -> Result<Self, Error> {
        let map = || {
            let len = rustix::fs::fstat(file)?.st_size;
            Mapping::file(file, usize::try_from(len).unwrap_or(usize::MAX))
        };
        match map() {
            Ok(mapping) => Ok(Self { mapping }),
            Err(errno) => Err(Error::other(Doing::Map, errno)),
        }
    }

    /// Where it is mapped.
    pub fn range(&self) -> Range {
        Range::new(self.mapping.addr(), self.mapping.len())
    }

    /// For each page, whether it is in the page cache, as `mincore(2)` tells; that says yes to all
    /// of a file that the caller may not write to.
    pub fn in_core(&self) -> Result<Vec<bool>, Error> {
        self.mapping
            .in_core()
            .map_err(|errno| Error::other(Doing::Query, errno))
    }
}
