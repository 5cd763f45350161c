// SPDX-License-Identifier: GPL-2.0

//! `mlockctl run`: a program with the preload library.

use crate::{Failure, cli::Run};
use mlock_rs::Device;
use object::{
    Endianness,
    elf::PT_INTERP,
    read::elf::{ElfFile64, ProgramHeader},
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const LIBRARY: &str = "libmlock_rs_preload.so";

pub(crate) fn run(args: &Run) -> Result<ExitCode, Failure> {
    let library = match &args.library {
        Some(file) => fs::canonicalize(file).map_err(|e| format!("{}: {e}", file.display()))?,
        None => library()?,
    };
    if library
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" :".contains(byte))
    {
        let why = "LD_PRELOAD cannot name a file with a space or a colon in its path";
        return Err(format!("{}: {why}", library.display()).into());
    }
    if let Err(error) = Device::open() {
        if args.strict {
            return Err(error.into());
        }
        eprintln!("mlockctl: using mlock(2): {error}");
    }
    let [program, arguments @ ..] = &args.command[..] else {
        return Err("no program".into());
    };
    if let Some(path) = in_path(program).filter(|path| is_static(path)) {
        let why = format!(
            "{} is linked statically: the library cannot be loaded into it",
            path.display()
        );
        if args.strict {
            return Err(why.into());
        }
        eprintln!("mlockctl: {why}");
    }

    let mut command = Command::new(program);
    command.args(arguments).env("LD_PRELOAD", preload(&library));
    if args.strict {
        command.env("MLOCK_RS_STRICT", "1");
    }
    if args.stats {
        command.env("MLOCK_RS_STATS", "1");
    }
    let error = command.exec();
    Err(format!("{}: {error}", program.to_string_lossy()).into())
}

/// The library, where an installation or a build has it.
fn library() -> Result<PathBuf, Failure> {
    let program = env::current_exe()?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    [".", "../lib/mlock_rs"]
        .iter()
        .filter_map(|place| fs::canonicalize(beside.join(place).join(LIBRARY)).ok())
        .next()
        .ok_or_else(|| {
            format!(
                "no {LIBRARY} beside {}: name it with --library",
                program.display()
            )
            .into()
        })
}

/// The value for LD_PRELOAD: before what is there already.
fn preload(library: &Path) -> OsString {
    let mut value = OsString::from(library);
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    value
}

/// The file that execvp(3) would run.
fn in_path(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return Some(path.to_path_buf());
    }
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(path))
        .find(|file| file.is_file())
}

/// Whether it is an ELF file without an interpreter. (A script's interpreter is another file.)
fn is_static(path: &Path) -> bool {
    let Ok(data) = fs::read(path) else {
        return false;
    };
    let Ok(file) = ElfFile64::<Endianness>::parse(&*data) else {
        return false;
    };
    let endian = file.endian();
    let headers = file.elf_program_headers();
    headers
        .iter()
        .all(|header| header.p_type(endian) != PT_INTERP)
}
