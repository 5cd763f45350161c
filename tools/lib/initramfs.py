# SPDX-License-Identifier: GPL-2.0
"""The VM's root file system: busybox, tools/guest/init, a few files and, for a kernel that has them
as modules, what the VM's devices need, as a newc cpio archive."""

import lzma
import pathlib
import shutil
import stat
import subprocess

from common import CLONE, die

TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/profile": "PS1='vm:\\w# '\nalias ll='ls -l'\n",
}
# What the VM and the tests use and Debian's kernels have as modules, cloud's not all of them.
MODULES = ("9pnet_virtio", "9p", "virtio_blk", "ext4", "loop", "dm-delay", "dm-flakey")


def entry(number, path, mode, data=b"", device=(0, 0)):
    """One file of a newc archive: a header of hexadecimal fields, the name, the content."""
    encoded = path.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def modules(directory):
    """The files of the modules, each after those that it depends on."""
    home, release = pathlib.Path(directory).parents[2], pathlib.Path(directory).name
    if not (pathlib.Path(directory) / "modules.dep").exists():
        subprocess.run(["depmod", "-b", home, release], check=True)
    found = []
    for name in MODULES:
        done = subprocess.run(["modprobe", "-d", home, "-S", release, "--show-depends", name],
                              check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        if done.returncode and "not found" not in done.stderr:
            die(f"modprobe: {done.stderr.strip()}")
        found += [line.split()[1] for line in done.stdout.splitlines() if line[:7] == "insmod "]
    return [pathlib.Path(file) for file in dict.fromkeys(found)]


def loaded_at_boot(directory):
    """Name and content of the modules, so named that init loads them in their order."""
    for number, file in enumerate(modules(directory) if directory else []):
        data = file.read_bytes()
        yield (f"modules/{number:02}-{file.name.split('.')[0]}.ko",
               lzma.decompress(data) if file.suffix == ".xz" else data)


def build(directory):
    """The whole archive. `directory` is what /lib/modules/RELEASE is on a machine with the kernel,
    or empty."""
    busybox = pathlib.Path(shutil.which("busybox"))
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True, text=True)
    files = [(d, stat.S_IFDIR | 0o755) for d in ("bin", "dev", "etc", "modules", "root")]
    files += [("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
              ("dev/null", stat.S_IFCHR | 0o666, b"", (1, 3)),
              ("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
              ("init", stat.S_IFREG | 0o755, (CLONE / "tools/guest/init").read_bytes())]
    files += [(f"bin/{a}", stat.S_IFLNK | 0o777, b"busybox")
              for a in applets.stdout.split() if a != "busybox"]
    files += [(path, stat.S_IFREG | 0o644, text.encode()) for path, text in TEXTS.items()]
    files += [(path, stat.S_IFREG | 0o644, data) for path, data in loaded_at_boot(directory)]
    if directory:
        # Where Debian's packages have it.
        home = f"usr/lib/modules/{pathlib.Path(directory).name}"
        files += [(str(path), stat.S_IFDIR | 0o755)
                  for path in reversed(pathlib.Path(home, "config").parents[:-1])]
        files.append((f"{home}/config", stat.S_IFREG | 0o644,
                      (pathlib.Path(directory) / "config").read_bytes()))
    archive = b"".join(entry(i, *f) for i, f in enumerate(files, 1))
    return archive + entry(0, "TRAILER!!!", 0)
