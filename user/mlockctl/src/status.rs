// SPDX-License-Identifier: GPL-2.0

//! `mlockctl status`: what is locked and in memory, as the kernel reports it in /proc.

use crate::{Failure, bar, cli::Status};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::BinaryBytes;
use mlock_rs::{FileMapping, page_size};
use procfs::process::{MMapPath, MemoryMap, Process, VmFlags, all_processes};
use serde::Serialize;
use std::{
    fs,
    io::{IsTerminal, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
};

pub(crate) fn run(args: &Status) -> Result<ExitCode, Failure> {
    let report = match &args.what {
        None => Report::Processes(processes()),
        Some(what) => match what.to_str().and_then(|text| text.parse().ok()) {
            Some(pid) => Report::Mappings(mappings(pid, args.locked)?),
            None => Report::File(file(what, args.locked)?),
        },
    };
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => report.text(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Report {
    Processes(Vec<ProcessRow>),
    Mappings(Vec<MappingRow>),
    File(FileReport),
}

/// A process that has locked memory.
#[derive(Debug, Serialize)]
struct ProcessRow {
    pid: i32,
    command: String,
    locked: u64,
    resident: u64,
    /// RLIMIT_MEMLOCK; none if there is no limit, or if it may not be known.
    limit: Option<u64>,
}

/// A mapping of a process.
#[derive(Debug, Serialize)]
struct MappingRow {
    start: u64,
    end: u64,
    size: u64,
    resident: u64,
    locked: bool,
    permissions: String,
    what: String,
}

/// A file: what of it is in the page cache, and who has it mapped.
#[derive(Debug, Serialize)]
struct FileReport {
    size: u64,
    resident: u64,
    #[serde(skip)]
    pages: Vec<bool>,
    mapped_by: Vec<UserRow>,
}

/// A process that has mapped a file.
#[derive(Debug, Serialize)]
struct UserRow {
    pid: i32,
    command: String,
    size: u64,
    resident: u64,
    locked: u64,
}

/// All processes with locked memory that this user may know of.
fn processes() -> Vec<ProcessRow> {
    let row = |process: Process| {
        let status = process.status().ok()?;
        let limits = process.limits().ok();
        Some(ProcessRow {
            pid: process.pid,
            command: status.name,
            locked: status.vmlck.filter(|kib| *kib > 0)? * 1024,
            resident: status.vmrss.unwrap_or(0) * 1024,
            limit: limits.and_then(|limits| match limits.max_locked_memory.soft_limit {
                procfs::process::LimitValue::Value(bytes) => Some(bytes),
                procfs::process::LimitValue::Unlimited => None,
            }),
        })
    };
    let all = all_processes().into_iter().flatten().flatten();
    all.filter_map(row).collect()
}

fn mappings(pid: i32, only_locked: bool) -> Result<Vec<MappingRow>, Failure> {
    let failed = |error: procfs::ProcError| match error {
        procfs::ProcError::NotFound(_) => format!("there is no process {pid}"),
        procfs::ProcError::PermissionDenied(_) => {
            format!("this user may not look at process {pid}; try it as root")
        }
        error => error.to_string(),
    };
    let maps = Process::new(pid)
        .and_then(|process| process.smaps())
        .map_err(failed)?;
    let rows = maps.into_iter().map(|map| MappingRow {
        start: map.address.0,
        end: map.address.1,
        size: map.address.1 - map.address.0,
        resident: resident(&map),
        locked: is_locked(&map),
        permissions: map.perms.as_str(),
        what: name(&map.pathname),
    });
    Ok(rows.filter(|row| row.locked || !only_locked).collect())
}

fn file(path: &Path, only_locked: bool) -> Result<FileReport, Failure> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let data = fs::metadata(path).map_err(|error| failed(&error))?;
    if !data.is_file() {
        return Err(failed(&"not a file").into());
    }
    let pages = match data.len() {
        0 => Vec::new(),
        _ => FileMapping::open(path)
            .and_then(|mapping| mapping.in_core())
            .map_err(|error| failed(&error))?,
    };
    let there = pages.iter().filter(|&&there| there).count() as u64;
    Ok(FileReport {
        size: data.len(),
        resident: (there * page_size() as u64).min(data.len()),
        pages,
        mapped_by: users(&data, only_locked),
    })
}

/// The processes that have mapped a file, as far as this user may know.
fn users(data: &fs::Metadata, only_locked: bool) -> Vec<UserRow> {
    let dev = (
        rustix::fs::major(data.dev()) as i32,
        rustix::fs::minor(data.dev()) as i32,
    );
    let own = std::process::id() as i32;
    let row = |process: Process| {
        let mut user = UserRow {
            pid: process.pid,
            command: process.status().ok()?.name,
            size: 0,
            resident: 0,
            locked: 0,
        };
        for map in process.smaps().ok()? {
            if (map.dev, map.inode) == (dev, data.ino()) {
                let size = map.address.1 - map.address.0;
                user.size += size;
                user.resident += resident(&map);
                user.locked += if is_locked(&map) { size } else { 0 };
            }
        }
        (user.size > 0 && (user.locked > 0 || !only_locked)).then_some(user)
    };
    let all = all_processes().into_iter().flatten().flatten();
    all.filter(|process| process.pid != own)
        .filter_map(row)
        .collect()
}

fn resident(map: &MemoryMap) -> u64 {
    map.extension.map.get("Rss").copied().unwrap_or(0)
}

fn is_locked(map: &MemoryMap) -> bool {
    map.extension.vm_flags.contains(VmFlags::LO)
}

fn name(path: &MMapPath) -> String {
    match path {
        MMapPath::Path(path) => path.display().to_string(),
        MMapPath::Heap => "[heap]".into(),
        MMapPath::Stack => "[stack]".into(),
        MMapPath::TStack(tid) => format!("[stack:{tid}]"),
        MMapPath::Vdso => "[vdso]".into(),
        MMapPath::Vvar => "[vvar]".into(),
        MMapPath::Vsyscall => "[vsyscall]".into(),
        MMapPath::Rollup => "[rollup]".into(),
        MMapPath::Anonymous => "anonymous".into(),
        MMapPath::Vsys(key) => format!("System V shared memory {key}"),
        MMapPath::Other(other) => format!("[{other}]"),
    }
}

impl Report {
    fn text(&self) -> String {
        match self {
            Report::Processes(rows) if rows.is_empty() => {
                "No process that this user may look at has locked memory.\n".into()
            }
            Report::Processes(rows) => {
                let mut table = table(&["PID", "command", ">locked", ">in memory", ">limit"]);
                for row in rows {
                    table.add_row([
                        row.pid.to_string(),
                        row.command.clone(),
                        bytes(row.locked),
                        bytes(row.resident),
                        row.limit.map_or("none".into(), bytes),
                    ]);
                }
                finish(&table)
            }
            Report::Mappings(rows) if rows.is_empty() => "No mapping is locked.\n".into(),
            Report::Mappings(rows) => mapping_table(rows),
            Report::File(report) => report.text(),
        }
    }
}

fn mapping_table(rows: &[MappingRow]) -> String {
    let mut table = table(&["address", ">size", ">in memory", "", "locked", "", "what"]);
    let mut sum = (0, 0, 0);
    for row in rows {
        sum.0 += row.size;
        sum.1 += row.resident;
        sum.2 += if row.locked { row.size } else { 0 };
        table.add_row([
            format!("{:012x}", row.start),
            bytes(row.size),
            bytes(row.resident),
            bar::share(row.resident, row.size),
            if row.locked { "locked" } else { "-" }.into(),
            row.permissions.clone(),
            row.what.clone(),
        ]);
    }
    let (size, resident, locked) = sum;
    table.add_row([
        "all".into(),
        bytes(size),
        bytes(resident),
        bar::share(resident, size),
        bytes(locked),
    ]);
    finish(&table)
}

impl FileReport {
    fn text(&self) -> String {
        let head = format!(
            "{} of {} in memory  {}\n",
            bytes(self.resident),
            bytes(self.size),
            bar::places(&self.pages)
        );
        if self.mapped_by.is_empty() {
            return head + "No process that this user may look at has it mapped.\n";
        }
        let mut table = table(&["PID", "command", ">mapped", ">in memory", "", ">locked"]);
        for row in &self.mapped_by {
            table.add_row([
                row.pid.to_string(),
                row.command.clone(),
                bytes(row.size),
                bytes(row.resident),
                bar::share(row.resident, row.size),
                bytes(row.locked),
            ]);
        }
        head + &finish(&table)
    }
}

fn bytes(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// An empty table; columns whose name begins with > are aligned to the right.
fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
    for (n, name) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(n).filter(|_| name.starts_with('>')) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if std::io::stdout().is_terminal() {
        // A terminal that does not know its width says 0.
        let size = rustix::termios::tcgetwinsize(std::io::stdout());
        if let Some(size) = size.ok().filter(|size| size.ws_col > 0) {
            table.set_width(size.ws_col.max(60));
            table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        }
    }
    table
}

fn finish(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}
