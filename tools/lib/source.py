# SPDX-License-Identifier: GPL-2.0
"""The kernel source tree: Debian's tarball or the user's own tree, with the patches applied.

The patched files are always computed from the unpatched ones, which are kept next to the tree,
and only files whose content differs are written.  So a changed patch rebuilds what it changes, and
a patch that does not apply leaves the tree as it was.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

from common import CLONE, Progress, cache, die, note

# The versions that there is a series for, the default first.
VERSIONS = re.findall(r"^\d\S*", (CLONE / "kernel/versions").read_text(), re.M)
# The version whose patches are used for a tree named by KERNEL_SRC, too.
VERSION = os.environ.get("KERNEL") or VERSIONS[0]
# Names a variable: only so many patches of the series, in a tree of its own.
FIRST = "MLOCK_RS_FIRST_PATCHES"


def tarball(version):
    """Where tools/toolchain puts a source if it can be had."""
    return cache() / f"linux-source-{version}.tar.xz"


def is_there(version):
    """Whether there is its source: packed, or unpacked before."""
    return tarball(version).exists() or (cache() / f"linux-{version}/src").exists()


def series():
    """The patches, in their order."""
    return sorted((CLONE / "patches" / VERSION).glob("*.patch"))


class Source:
    """One tree in the cache and what was put into it."""

    def __init__(self):
        named = os.environ.get("KERNEL_SRC")
        self.origin = pathlib.Path(named).resolve() if named else None
        if self.origin and not (self.origin / "Kbuild").is_file():
            die(f"KERNEL_SRC: {self.origin} is not a kernel tree")
        key = hashlib.sha256(str(self.origin).encode()).hexdigest()[:8] if named else VERSION
        first = os.environ.get(FIRST)
        self.home = cache() / (f"linux-{key}" + ("-series" if first else ""))
        self.tree = self.home / "src"
        self.original = self.home / "original"    # patched files as they were before
        self.list = self.home / "files"           # what was copied from KERNEL_SRC
        # Read once: somebody may work on them during a build.
        self.patches = [(p.relative_to(CLONE), p.read_bytes())
                        for p in series()[:int(first) if first else None]]

    def series(self):
        """What the tree depends on besides its origin."""
        return hashlib.sha256(b"\0".join(text for _, text in self.patches)).hexdigest()

    def is_current(self):
        """Whether this series is what was last put into the tree."""
        applied = self.home / "series"
        return (self.tree.exists() and applied.exists()
                and applied.read_text() == self.series())

    def update(self):
        """Make the tree, or bring it up to date.  Does nothing, quickly, when nothing changed."""
        if self.origin:
            self.copy()
        elif not self.tree.exists():
            self.unpack()
        if not self.is_current() or self.origin:
            self.patch()
            (self.home / "series").write_text(self.series())

    def unpack(self):
        packed = tarball(VERSION)
        new = self.home / "src.new"
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(self.original, ignore_errors=True)
        (self.home / "series").unlink(missing_ok=True)
        new.mkdir(parents=True)
        progress = Progress()
        note(f"unpacking {packed.name} (1.7 GB)")
        tar = subprocess.Popen(["tar", "-xJf", packed, "-C", new, "--strip-components=1",
                                "--checkpoint=2000", "--checkpoint-action=echo=%u"],
                               stderr=subprocess.PIPE, text=True, env={**os.environ,
                                                                       "XZ_OPT": "-T0"})
        for line in tar.stderr:
            progress.show(f"unpacking, {int(line) * 10 >> 10} MB" if line.strip().isdigit()
                          else line.strip())
        progress.done()
        if tar.wait():
            die(f"cannot unpack {packed}; is the disk full? (remove it if it is damaged)")
        new.rename(self.tree)

    def copy(self):
        """Copy what differs from the user's tree, without what a build left there."""
        files = set()
        if (self.origin / ".git").exists():
            out = subprocess.run(["git", "-c", "safe.directory=*", "-C", self.origin, "ls-files",
                                  "-z", "--cached", "--others", "--exclude-standard"],
                                 stdout=subprocess.PIPE, check=True).stdout
            files = set(filter(None, out.decode().split("\0")))
        # A repository may track only a part of the tree it is in.
        if "Makefile" not in files:
            files = {str(f.relative_to(self.origin)) for f in self.walk_unbuilt()}
        now = {f: self.version(f) for f in files}
        old = {}
        if self.list.exists():
            old = dict(line.split("\t") for line in self.list.read_text().split("\0"))
        else:
            note(f"copying {self.origin} into the cache")
        self.tree.mkdir(parents=True, exist_ok=True)
        for file in old.keys() - now.keys():
            (self.tree / file).unlink(missing_ok=True)
            (self.original / file).unlink(missing_ok=True)
        changed = {f for f in now if now[f] and old.get(f) != now[f]}
        kept = {f for f in changed if (self.original / f).exists()}
        self.rsync(changed - kept, self.tree)
        self.rsync(kept, self.original)
        self.list.write_text("\0".join(f"{f}\t{v}" for f, v in sorted(now.items())))

    def version(self, file):
        """Changes when the file does; empty if there is no such file."""
        try:
            status = os.lstat(self.origin / file)
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"

    def walk_unbuilt(self):
        for top, dirs, files in os.walk(self.origin):
            top = pathlib.Path(top)
            dirs[:] = [d for d in dirs if d != ".git" and not (
                d in ("config", "generated") and top.name == "include")]
            for file in files:
                if not re.search(r"^\.config|\.(o|a|ko|cmd|mod|mod\.c|symvers|order)$", file):
                    yield top / file

    def rsync(self, files, to):
        if files:
            subprocess.run(["rsync", "-a", "--from0", "--files-from=-", "--ignore-missing-args",
                            f"{self.origin}/", to], check=True,
                           input="\0".join(files).encode())

    def touched(self):
        """The files the series changes, and those that earlier series changed."""
        files = {f.relative_to(self.original) for f in self.original.rglob("*") if f.is_file()}
        for _, text in self.patches:
            for line in re.findall(rb"^(?:\+\+\+ b|--- a)/(\S+)", text, re.M):
                files.add(pathlib.Path(line.decode()))
        return files

    def patch(self):
        """Bring every file that a patch touches, or touched, to the content it should have."""
        scratch = self.home / "scratch"
        files = self.touched()
        for file in files:
            before, now = self.original / file, self.tree / file
            if not before.exists():
                before.parent.mkdir(parents=True, exist_ok=True)
                # A file that a patch creates has no content before it: keep an empty one.
                shutil.copy2(now, before) if now.exists() else before.touch()
        if not self.apply(scratch, files, self.patches):
            first = self.failed, self.why
            # The user's tree may have the series already.
            if not self.apply(scratch, files, self.patches[::-1], "-R"):
                die(f"{first[0]} does not apply to "
                    f"{self.origin or 'linux-source-' + VERSION}:\n{first[1].rstrip()}")
            self.fill(scratch, files)
        for file in files:
            wanted, now = scratch / file, self.tree / file
            if not wanted.exists():
                now.unlink(missing_ok=True)
            elif not now.exists() or now.read_bytes() != wanted.read_bytes():
                now.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(wanted, now)
        shutil.rmtree(scratch, ignore_errors=True)

    def fill(self, scratch, files):
        """Copy the unpatched files."""
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        for file in files:
            before = self.original / file
            if before.stat().st_size:
                (scratch / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(before, scratch / file)

    def apply(self, scratch, files, patches, *options):
        """Apply the patches to a copy of the unpatched files; remember the one that fails."""
        self.fill(scratch, files)
        for name, text in patches:
            result = subprocess.run(["patch", "-p1", "-s", "-f", "--fuzz=0", "-r", "-",
                                     "--no-backup-if-mismatch", *options, "-d", scratch],
                                    input=text, capture_output=True, check=False)
            if result.returncode:
                self.failed, self.why = name, (result.stdout + result.stderr).decode()
                return False
        return True
