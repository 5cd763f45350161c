# SPDX-License-Identifier: GPL-2.0
"""What cargo has built of the crates that user/ depends on, kept in the cache for other clones."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile

from common import CLONE, cache

TARGET = CLONE / "build/user/debug"
# All that cargo looks at for what does not change from clone to clone.
PARTS = (".fingerprint", "build", "deps")
# What is in user/ itself is built anew.
OURS = "*mlock*"
PREFIX = "user-target-"


def key():
    """Changes with the compiler, which the name of the toolchain stands for, and the crates."""
    files = sorted([CLONE / "user/Cargo.lock", *(CLONE / "user").glob("**/Cargo.toml")])
    text = b"\0".join([os.environ["MLOCK_RS_INSIDE"].encode(), *(f.read_bytes() for f in files)])
    return hashlib.sha256(text).hexdigest()[:12]


def copy(source, to):
    # With the times, which cargo compares.
    subprocess.run(["rsync", "-a", f"--exclude={OURS}", *(source / part for part in PARTS), to],
                   check=True)


def home():
    return cache() / (PREFIX + key())


def restore():
    """Begin with what is kept."""
    if home().exists() and not TARGET.exists():
        TARGET.mkdir(parents=True)
        copy(home(), TARGET)


def keep():
    """All is built: keep it, in place of what was kept for other crates."""
    if home().exists():
        return
    (cache() / "tmp").mkdir(exist_ok=True)
    new = tempfile.mkdtemp(dir=cache() / "tmp")
    copy(TARGET, new)
    for old in cache().glob(PREFIX + "*"):
        shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(OSError):
        # Somebody else was faster.
        os.rename(new, home())
    shutil.rmtree(new, ignore_errors=True)
