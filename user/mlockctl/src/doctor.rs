// SPDX-License-Identifier: GPL-2.0

//! `mlockctl doctor`: can the module be used here, and what to do if not.

use crate::{Failure, cli::Doctor};
use indicatif::BinaryBytes;
use mlock_rs::{Abi, Device, Limits, LockedVec, Rule, page_size, uapi};
use procfs::{ConfigSetting, FromRead, KernelConfig};
use serde::Serialize;
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::ExitCode,
};

const DEVICE: &str = "/dev/mlock_rs";
/// The oldest version of Linux that the module can be built for.
const OLDEST: (u32, u32) = (7, 3);
/// What the module needs of the kernel: without these it cannot be built for it, or not be loaded.
const NEEDED: [&str; 4] = [
    "CONFIG_MODULES",
    "CONFIG_RUST",
    "CONFIG_LIVEPATCH",
    "CONFIG_KALLSYMS_ALL",
];
/// Without it the kernel has no locks for single VMAs, and some features are missing.
const WANTED: &str = "CONFIG_PER_VMA_LOCK";
/// How to come by a kernel that has all that.
const ANOTHER_KERNEL: &str = "Debian 13's kernels from backports have all of this: sudo apt install \
     linux-image-amd64/trixie-backports linux-headers-amd64/trixie-backports\n\
     In a kernel of your own, set the options and build it.";
/// The letters of the kernel's taint that loading the module may set, and why.
const TAINTS: [(char, &str); 3] = [
    ('O', "built outside of the kernel's tree"),
    ('E', "not signed with a key that the kernel knows"),
    (
        'K',
        "has livepatch relocations, to reach functions that are not exported; it patches nothing",
    ),
];
/// What this program would use, and what it is called.
const FEATURES: [(u32, &str); 4] = [
    (uapi::MLOCK_RS_FEATURE_WORKERS, "workers"),
    (uapi::MLOCK_RS_FEATURE_YIELD, "yield"),
    (uapi::MLOCK_RS_FEATURE_INTERRUPTIBLE, "interruptible"),
    (uapi::MLOCK_RS_FEATURE_PROGRESS, "progress"),
];

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
    checks.extend([module(), taint(), device()]);
    checks.extend(features());
    checks.extend([limit(), mappings(), trial()]);
    checks
}

fn release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// Major and minor version, as `uname -r` begins.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel() -> Check {
    let release = release();
    let check = Check::good("kernel", &*release);
    match version(&release) {
        Some(version) if version < OLDEST => check.but(
            Verdict::Bad,
            format!(
                "mlock_rs needs Linux {}.{} or later.\n{ANOTHER_KERNEL}",
                OLDEST.0, OLDEST.1
            ),
        ),
        _ => check,
    }
}

/// The kernel's configuration: of the running one, or as its package has it.
fn read_config() -> Option<HashMap<String, ConfigSetting>> {
    let packaged = || {
        let text = fs::read(format!("/usr/lib/modules/{}/config", release())).ok()?;
        KernelConfig::from_read(&*text).ok().map(|config| config.0)
    };
    procfs::kernel_config().ok().or_else(packaged)
}

fn config() -> Option<Check> {
    const WHAT: &str = "configuration";
    let config = read_config()?;
    let is_set = |name: &&str| matches!(config.get(*name), Some(ConfigSetting::Yes));
    let missing: Vec<_> = NEEDED.into_iter().filter(|name| !is_set(name)).collect();
    Some(match missing[..] {
        [] if is_set(&WANTED) => {
            Check::good(WHAT, format!("{}, {WANTED} are set", NEEDED.join(", ")))
        }
        [] => Check::good(WHAT, format!("{WANTED} is not set")).but(
            Verdict::Note,
            "Some features are missing: the kernel has no locks for single VMAs.",
        ),
        _ => Check::good(WHAT, format!("{} not set", missing.join(", ")))
            .but(Verdict::Bad, ANOTHER_KERNEL),
    })
}

/// What loading the module did to the kernel's taint, or would do.
fn taint() -> Check {
    const WHAT: &str = "taint";
    let explain = |letters: &str| {
        let known = TAINTS
            .iter()
            .filter(|(letter, _)| letters.contains(*letter))
            .map(|(letter, why)| format!("{letter}: {why}"));
        known.collect::<Vec<_>>().join("\n")
    };
    match fs::read_to_string("/sys/module/mlock_rs/taint") {
        Ok(letters) => Check::good(WHAT, format!("the module has set {}", letters.trim()))
            .but(Verdict::Good, explain(letters.trim())),
        Err(_) => Check::good(
            WHAT,
            "loading the module will set O, K and, unless signed, E",
        )
        .but(Verdict::Good, explain("OEK")),
    }
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
