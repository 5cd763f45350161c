// SPDX-License-Identifier: GPL-2.0

//! `mlockctl doctor`: can the module be used here, and what to do if not.

use crate::{Failure, cli::Doctor};
use indicatif::BinaryBytes;
use mlock_rs::{Abi, Device, Limits, LockedVec, Rule, page_size, uapi};
use procfs::ConfigSetting;
use serde::Serialize;
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::ExitCode,
};

const DEVICE: &str = "/dev/mlock_rs";
/// What the module needs of the kernel: without this it cannot be built for it.
const NEEDED: [&str; 3] = ["CONFIG_MODULES", "CONFIG_RUST", "CONFIG_MMU"];
/// What this program would use, and what it is called.
const FEATURES: [(u32, &str); 4] = [
    (uapi::MLOCK_RS_FEATURE_WORKERS, "workers"),
    (uapi::MLOCK_RS_FEATURE_YIELD, "yield"),
    (uapi::MLOCK_RS_FEATURE_INTERRUPTIBLE, "interruptible"),
    (uapi::MLOCK_RS_FEATURE_PROGRESS, "progress"),
];
/// A function that the patches add.
const PATCHED: &str = "mlock_split_vma";

pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let checks = examine();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        checks.iter().for_each(Check::print);
    }
    let usable = checks.iter().all(|check| check.verdict != Verdict::Bad);
    if !args.json {
        match usable {
            true => println!("\nmlock_rs can be used here."),
            false => println!("\nmlock_rs cannot be used here."),
        }
    }
    Ok(match usable {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, but not for all or not for much.
    Note,
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    remedy: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Good,
            found: found.into(),
            remedy: None,
        }
    }

    fn but(self, verdict: Verdict, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            verdict,
            remedy,
            ..self
        }
    }

    fn print(&self) {
        let mark = match self.verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "BAD ",
        };
        println!("{mark}  {:<16} {}", self.what, self.found);
        for line in self.remedy.iter().flat_map(|remedy| remedy.lines()) {
            println!("      {:<16} {line}", "");
        }
    }
}

fn examine() -> Vec<Check> {
    let mut checks = vec![kernel()];
    checks.extend(config());
    checks.extend([module(), device()]);
    checks.extend(features());
    checks.extend([limit(), mappings(), trial()]);
    checks
}

/// Whether the kernel has the patches. Those who may not see symbols are told nothing.
fn kernel() -> Check {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let Ok(symbols) = fs::read_to_string("/proc/kallsyms") else {
        return Check::good("kernel", format!("{release}; its symbols are hidden"));
    };
    let patched = symbols
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some(PATCHED));
    match patched {
        true => Check::good("kernel", format!("{release}, has the patches")),
        false => Check::good(
            "kernel",
            format!("{release}, without the patches of mlock_rs"),
        )
        .but(
            Verdict::Bad,
            "Boot a kernel with the patches in patches/; the README says how.",
        ),
    }
}

fn config() -> Option<Check> {
    let config = procfs::kernel_config().ok()?;
    let missing: Vec<_> = NEEDED
        .into_iter()
        .filter(|name| !matches!(config.get(*name), Some(ConfigSetting::Yes)))
        .collect();
    Some(match missing[..] {
        [] => Check::good("configuration", format!("{} are set", NEEDED.join(", "))),
        _ => Check::good("configuration", format!("{} not set", missing.join(", ")))
            .but(Verdict::Bad, "Build the kernel with these."),
    })
}

fn module() -> Check {
    match Path::new("/sys/module/mlock_rs").exists() {
        true => Check::good("module", "mlock_rs is loaded"),
        false => Check::good("module", "mlock_rs is not loaded").but(
            Verdict::Bad,
            "sudo modprobe mlock_rs\nAt each boot: echo mlock_rs | sudo tee \
             /etc/modules-load.d/mlock_rs.conf",
        ),
    }
}

fn device() -> Check {
    let mode = fs::metadata(DEVICE).ok().map(|data| {
        let kind = match data.file_type().is_char_device() {
            true => "",
            false => ", not a device",
        };
        (data.mode() & 0o7777, kind)
    });
    match (Device::open(), mode) {
        (Ok(device), Some((mode, _))) => {
            let version = device.abi().map_or(0, |abi| abi.version);
            let check = Check::good(
                "device",
                format!("{DEVICE}, mode {mode:04o}, ABI {version}"),
            );
            match mode & 0o006 {
                0o006 => check,
                _ => check.but(
                    Verdict::Note,
                    "Only some users may use it; mlock(2) is for everybody. Install the udev rule \
                     60-mlock_rs.rules.",
                ),
            }
        }
        (Err(error), Some((mode, kind))) => {
            Check::good("device", format!("{error} (mode {mode:04o}{kind})"))
                .but(Verdict::Bad, error.remedy())
        }
        (Err(error), None) => {
            Check::good("device", error.to_string()).but(Verdict::Bad, error.remedy())
        }
        (Ok(_), None) => Check::good("device", format!("{DEVICE} comes and goes"))
            .but(Verdict::Bad, "Try again."),
    }
}

/// What the module can do beside locking, if there is a module.
fn features() -> Option<Check> {
    const WHAT: &str = "features";
    let abi: Abi = Device::open().ok()?.abi()?;
    let names = |wanted: bool| {
        let all = FEATURES.iter().filter(|(bit, _)| abi.has(*bit) == wanted);
        all.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    let missing = names(false);
    let found = match &*names(true) {
        "" => "no more than to lock and to look".to_owned(),
        names => names.to_owned(),
    };
    let check = Check::good(WHAT, found);
    Some(match &*missing {
        "" => check,
        "workers" => check.but(
            Verdict::Note,
            "One thread locks alone: workers need a kernel with CONFIG_VHOST_TASK.",
        ),
        _ if abi.version < uapi::MLOCK_RS_ABI_VERSION => check.but(
            Verdict::Note,
            format!("The module is older than this program. It lacks: {missing}."),
        ),
        _ => check.but(Verdict::Note, format!("The module lacks: {missing}.")),
    })
}

fn limit() -> Check {
    const WHAT: &str = "memory limit";
    let limits = Limits::now();
    let size = |bytes: Option<u64>| bytes.map_or("none".into(), |n| BinaryBytes(n).to_string());
    let found = format!(
        "RLIMIT_MEMLOCK {} (hard {})",
        size(limits.soft),
        size(limits.hard)
    );
    if limits.cap_ipc_lock {
        return Check::good(WHAT, found + ", which CAP_IPC_LOCK overrides");
    }
    // Enough for secrets, not for files. 64 MiB is no more than an example that can be typed.
    const EXAMPLE: u64 = 64 << 20;
    match limits.check(EXAMPLE) {
        Ok(()) => Check::good(WHAT, found),
        Err(error) if matches!(error.rule(), Rule::NotPermitted { .. }) => {
            Check::good(WHAT, found).but(Verdict::Bad, error.remedy())
        }
        Err(error) => Check::good(WHAT, found).but(
            Verdict::Note,
            format!("Enough for secrets, not for much more. {}", error.remedy()),
        ),
    }
}

fn mappings() -> Check {
    let most = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let most = most.trim();
    Check::good(
        "mappings",
        format!("up to {most} in a process (vm.max_map_count)"),
    )
}

/// Lock a page and ask the module whether it is.
fn trial() -> Check {
    const WHAT: &str = "trial";
    let trial = || {
        let device = Device::open()?;
        let page = LockedVec::<u8>::zeroed(&device, page_size())?;
        device.query(page.range())
    };
    match trial() {
        Ok(query) if query.locked_resident => Check::good(WHAT, "locked a page, and it is locked"),
        Ok(query) => Check::good(
            WHAT,
            format!("locked a page, but it is not locked: {query:?}"),
        )
        .but(
            Verdict::Bad,
            "This is a fault of the module; please report it.",
        ),
        Err(error) => Check::good(WHAT, format!("{error}")).but(Verdict::Bad, "See above."),
    }
}
