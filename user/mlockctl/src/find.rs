// SPDX-License-Identifier: GPL-2.0

//! The files to lock, and what is not among them.

use indicatif::BinaryBytes;
use std::{
    collections::HashMap,
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};
use walkdir::WalkDir;

/// A file to lock.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// Why a file was left out.
#[derive(Debug)]
pub(crate) enum Why {
    Symlink,
    Special(&'static str),
    Empty,
    TooLarge { len: u64, max: u64 },
    SameAs(PathBuf),
    Failed(String),
}

impl Why {
    /// Whether something went wrong, and it was not left out on purpose.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Why::Failed(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Symlink => f.write_str("a symbolic link; name it to follow it"),
            Why::Special(what) => write!(f, "{what}, not a file"),
            Why::Empty => f.write_str("empty"),
            Why::TooLarge { len, max } => {
                write!(f, "{}, more than {}", BinaryBytes(*len), BinaryBytes(*max))
            }
            Why::SameAs(path) => write!(f, "the same file as {}", path.display()),
            Why::Failed(why) => f.write_str(why),
        }
    }
}

/// Find all files to lock below `paths`; `skip` hears of all others.
pub(crate) fn files(
    paths: &[PathBuf],
    max: Option<u64>,
    mut skip: impl FnMut(&Path, Why),
) -> Vec<Found> {
    let mut known = HashMap::new();
    let mut found = Vec::new();
    for path in paths {
        for entry in WalkDir::new(path).sort_by_file_name() {
            let path = match &entry {
                Ok(entry) => entry.path(),
                Err(error) => error.path().unwrap_or(path),
            };
            let judged = match &entry {
                Ok(entry) => judge(entry, max, &mut known),
                Err(error) => Err(Why::Failed(reason(error.io_error()))),
            };
            match judged {
                Ok(Some(len)) => found.push(Found {
                    path: path.to_path_buf(),
                    len,
                }),
                Ok(None) => {}
                Err(why) => skip(path, why),
            }
        }
    }
    found
}

/// How long a file to lock is; `None` for a directory, whose content comes by itself.
fn judge(
    entry: &walkdir::DirEntry,
    max: Option<u64>,
    known: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<Option<u64>, Why> {
    let path = entry.path();
    if entry.path_is_symlink() && entry.depth() > 0 {
        return Err(Why::Symlink);
    }
    let data = fs::metadata(path).map_err(|error| Why::Failed(reason(Some(&error))))?;
    let (kind, len) = (data.file_type(), data.len());
    if kind.is_dir() {
        return Ok(None);
    }
    let special = [
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device(), "a character device"),
        (kind.is_block_device(), "a block device"),
    ];
    if let Some((_, what)) = special.into_iter().find(|(is, _)| *is) {
        return Err(Why::Special(what));
    }
    match max {
        _ if len == 0 => return Err(Why::Empty),
        Some(max) if len > max => return Err(Why::TooLarge { len, max }),
        _ => {}
    }
    if let Some(first) = known.get(&(data.dev(), data.ino())) {
        return Err(Why::SameAs(first.clone()));
    }
    known.insert((data.dev(), data.ino()), path.to_path_buf());
    Ok(Some(len))
}

fn reason(error: Option<&io::Error>) -> String {
    match error.map(|error| (error.kind(), error)) {
        None => "a loop of symbolic links".into(),
        Some((io::ErrorKind::NotFound, _)) => "no such file".into(),
        Some((io::ErrorKind::PermissionDenied, _)) => "this user may not read it".into(),
        Some((_, error)) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_file_once_and_a_reason_for_all_others() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("a"), "12345").unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        fs::create_dir(path("c")).unwrap();
        fs::write(path("c/large"), [0; 100]).unwrap();
        fs::write(path("c/empty"), "").unwrap();
        symlink(path("a"), path("c/link")).unwrap();

        let mut skipped = Vec::new();
        let paths = [home.path().into(), "/dev/null".into(), path("none")];
        let found = files(&paths, Some(99), |path, why| {
            let name = path.strip_prefix(home.path()).unwrap_or(path);
            skipped.push((name.display().to_string(), why.to_string()));
        });

        let a = Found {
            path: path("a"),
            len: 5,
        };
        let same = format!("the same file as {}", a.path.display());
        assert_eq!(found, [a]);
        let expected = [
            ("b", same.as_str()),
            ("c/empty", "empty"),
            ("c/large", "100 B, more than 99 B"),
            ("c/link", "a symbolic link; name it to follow it"),
            ("/dev/null", "a character device, not a file"),
            ("none", "no such file"),
        ];
        let expected = expected.map(|(name, why)| (name.to_owned(), why.to_owned()));
        assert_eq!(skipped, expected);
    }

    #[test]
    fn a_link_that_is_named_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("link"));
        fs::write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        let found = files(std::slice::from_ref(&link), None, |path, why| {
            panic!("{path:?}: {why}")
        });
        assert_eq!(found, [Found { path: link, len: 1 }]);
    }
}
