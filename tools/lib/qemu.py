# SPDX-License-Identifier: GPL-2.0
"""The QEMU command line, and whether KVM works here."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import initramfs
from common import CLONE, cache, die, note

QEMU = "qemu-system-x86_64"
# How long the probe boot may take; a working KVM needs about one second.
PROBE_SECONDS = 10


def accelerator(kernel, modules=""):
    """"kvm" if a VM with this kernel boots with it, otherwise "tcg".

    /dev/kvm may be there and yet QEMU aborts or the guest hangs, so it has to be tried.  The
    answer holds until the host boots anew.
    """
    forced = os.environ.get("MLOCK_RS_ACCEL")
    if forced:
        if forced not in ("kvm", "tcg"):
            die(f"MLOCK_RS_ACCEL is '{forced}'; it can be kvm or tcg")
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache() / "vm" / f"accel-{boot}-{os.environ['MLOCK_RS_INSIDE']}-{os.getuid()}"
    if not answer.exists():
        works = probe(kernel, modules)
        note("KVM works" if works else "KVM does not boot a guest here; using TCG")
        answer.write_text("kvm" if works else "tcg")
    return answer.read_text()


def probe(kernel, modules):
    with tempfile.TemporaryDirectory(prefix="probe-", dir=cache() / "vm") as home:
        home = pathlib.Path(home)
        log = home / "log"
        prepare(home, {"MODE": "probe"}, modules)
        try:
            status = subprocess.run(
                command(home, kernel, "kvm", log), timeout=PROBE_SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, check=False).returncode
        except subprocess.TimeoutExpired:
            return False
        text = log.read_text(errors="replace") if log.exists() else ""
        return status == 0 and "vm: guest is up" in text and "reboot: Power down" in text


def prepare(home, settings, modules):
    """Put what the guest's init needs in the run directory."""
    private = home / ".vm"
    private.mkdir()
    home.chmod(0o1777)
    (private / "initramfs").write_bytes(initramfs.build(modules))
    (private / "settings").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))


# An emulated CPU that says that its byte-wise string instructions are fast has pages cleared and
# copied with these, byte by byte: a page fault takes twice as long, and most of it is that.
CPUS = {"kvm": "host", "tcg": "max,-erms,-fsrm", "icount": "max,-erms,-fsrm"}
ACCELERATORS = {
    "kvm": ["kvm"],
    "tcg": ["tcg,thread=multi"],
    # One instruction is a nanosecond for the guest, also for its cycle counter.
    "icount": ["tcg,thread=single", "-icount", "shift=0,sleep=off"],
}


# What the guest's kernel says of the frequency of its cycle counter, measured for long.
MEASURED = re.compile(r"tsc: Refined TSC clocksource calibration: (\d+)\.(\d+) MHz")


def frequency_file():
    """Where the frequency is kept until the host boots anew."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return cache() / "vm" / f"tsc-{boot}"


def known_frequency(accel):
    """Words for the kernel's command line, so that it does not have to measure in a hurry.

    The counter is the host's, but for icount. On a busy host the short measurement at boot can be
    wrong many times over, and the guest's clock with it.
    """
    file = frequency_file()
    known = accel == "tcg" and file.exists() and file.read_text().strip()
    return f"tsc_early_khz={known} " if known else ""


def keep_frequency(accel, kernel_log):
    """Remember what a guest has measured for long."""
    found = MEASURED.search(kernel_log)
    if accel == "tcg" and found and not frequency_file().exists():
        mhz, rest = found.groups()
        new = frequency_file().with_suffix(f".{os.getpid()}")
        new.write_text(f"{mhz}{rest:0<3.3}\n")
        new.rename(frequency_file())


def command(home, kernel, accel, log, memory="2G", cpus=2, disks=(), append="", share=None):
    """The whole command; the guest's console hvc0 is QEMU's standard input and output."""
    line = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35,usb=off,sata=off,smbus=off", "-cpu", CPUS[accel],
            "-accel", *ACCELERATORS[accel],
            "-smp", str(cpus), *memory_options(memory, cpus), "-kernel", kernel,
            "-initrd", home / ".vm/initramfs",
            # 7.3 with KASAN and 5-level paging: an interrupt in identify_cpu(), which clears the
            # CPU's features for a moment, takes the wrong shadow address.  The check of the timer
            # panics where a busy host lets no tick through for a while.
            "-append", "no5lvl no_timer_check console=ttyS0 panic=-1 oops=panic "
                       f"{known_frequency(accel)}printk.devkmsg=on kmemleak=on loglevel=7 "
                       f"{append}".strip(),
            "-chardev", f"file,id=log,path={option(log)}", "-serial", "chardev:log",
            "-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-pci",
            "-device", "virtconsole,chardev=console"]
    shared = [("run", home, ""), ("clone", CLONE, ",readonly=on")]
    if share:
        shared.append(("share", share, ",readonly=on"))
    for tag, path, more in shared:
        line += ["-fsdev", f"local,id={tag},path={option(path)},security_model=none,"
                           f"multidevs=remap{more}",
                 "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    for number, disk in enumerate(disks):
        path, _, mode = str(disk).partition(":")
        line += ["-drive", f"file={option(path)},format=raw,if=none,id=disk{number},"
                           f"cache={cache_mode(path)},readonly={'on' if mode == 'ro' else 'off'}",
                 "-device", f"virtio-blk-pci,drive=disk{number}"]
    # QEMU must not outlive the tool that started it.
    if shutil.which("setpriv"):
        line = ["setpriv", "--pdeathsig", "KILL", *line]
    return line


def memory_options(memory, cpus):
    """So much memory; "3712M+128M" is two NUMA nodes, of which the first one has the CPUs."""
    nodes = memory.split("+")
    if len(nodes) == 1:
        return ["-m", memory]
    options = ["-m", f"{sum(int(size.removesuffix('M')) for size in nodes)}M"]
    for number, size in enumerate(nodes):
        options += ["-object", f"memory-backend-ram,id=node{number},size={size}",
                    "-numa", f"node,nodeid={number},memdev=node{number}"
                             + ("" if number else f",cpus=0-{cpus - 1}")]
    return options


def option(path):
    """A path inside a QEMU option: a comma separates, two are one."""
    return str(path).replace(",", ",,")


def cache_mode(path):
    """Past the host's page cache where the file system can do that."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return "writeback"
    return "none"
