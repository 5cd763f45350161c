# SPDX-License-Identifier: GPL-2.0
"""The VM's root file system: busybox, tools/guest/init and a few files, as a newc cpio archive."""

import pathlib
import shutil
import stat
import subprocess

from common import CLONE

TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/profile": "PS1='vm:\\w# '\nalias ll='ls -l'\n",
}


def entry(number, path, mode, data=b"", device=(0, 0)):
    """One file of a newc archive: a header of hexadecimal fields, the name, the content."""
    encoded = path.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def build():
    """The whole archive; it takes a few milliseconds, so nothing is cached."""
    busybox = pathlib.Path(shutil.which("busybox"))
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True, text=True)
    files = [(d, stat.S_IFDIR | 0o755) for d in ("bin", "dev", "etc", "root")]
    files += [("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
              ("dev/null", stat.S_IFCHR | 0o666, b"", (1, 3)),
              ("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
              ("init", stat.S_IFREG | 0o755, (CLONE / "tools/guest/init").read_bytes())]
    files += [(f"bin/{a}", stat.S_IFLNK | 0o777, b"busybox")
              for a in applets.stdout.split() if a != "busybox"]
    files += [(path, stat.S_IFREG | 0o644, text.encode()) for path, text in TEXTS.items()]
    archive = b"".join(entry(i, *f) for i, f in enumerate(files, 1))
    return archive + entry(0, "TRAILER!!!", 0)
