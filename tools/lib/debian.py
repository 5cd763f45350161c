# SPDX-License-Identifier: GPL-2.0
"""Debian's kernels: finds their packages by version, and fetches them into the cache.

All are of one version, that of the source that modules for them are built with. The packages are
extracted, not installed.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile

import prepare
from common import cache, die, locked, note, phase

SERIES = "7.3"
# How Debian calls the kernels that are used as they are.
FLAVOURS = {"amd64": "amd64", "cloud": "cloud-amd64", "rt": "rt-amd64"}
SUITE = "trixie-backports"
SOURCE = f"linux-source-{SERIES}"
PARTS = ("linux-binary", "linux-modules", "linux-base", "linux-headers")


class Debian:
    """What the cache has of one series."""

    def __init__(self):
        # Version of the packages and release of what is in use.
        self.known = cache() / f"linux-{SERIES}.version"

    @property
    def home(self):
        """Where all of one version is."""
        return cache() / f"linux-{self.version()[0].replace('~', '-')}"

    @property
    def tree(self):
        """The source, unpacked."""
        return self.home / "src"

    # What apt knows.

    def apt(self, *words):
        """Run a command of apt that knows the suite of the kernels and installs nothing."""
        home = cache() / "apt"
        for name in ("lists/partial", "archives/partial"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        # The root's own source, which names the mirror, with the suite of the kernels.
        with open("/etc/apt/sources.list") as lines:
            own = [line for line in lines if re.search(r" trixie main", line)]
        (home / "sources.list").write_text("".join(own).replace(" trixie ", f" {SUITE} "))
        (home / "apt.conf").write_text(f"""
            Dir::Etc::SourceList "{home}/sources.list"; Dir::Etc::SourceParts "/dev/null";
            Dir::State::Lists "{home}/lists"; Dir::State::Status "{home}/status";
            Dir::Cache "{home}"; APT::Sandbox::User "root"; Debug::NoLocking "1";""")
        done = subprocess.run(words, check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, cwd=home,
                              env={**os.environ, "APT_CONFIG": str(home / "apt.conf")})
        if done.returncode:
            reason = re.search(r"^E: (.*)", done.stderr, re.M)
            die(f"cannot get Debian's packages: {reason[1] if reason else done.stderr.strip()}")
        return done.stdout

    @functools.cached_property
    def newest(self):
        """The newest version that has its source and a kernel: version of the packages, release."""
        self.apt("apt-get", "update")
        sources = re.findall(r"^\S+ \| +(\S+) \|", "".join(
            line.lstrip() + "\n" for line in self.apt("apt-cache", "madison", SOURCE).splitlines()),
            re.M)
        prefix = f"linux-binary-{SERIES}."
        releases = {}
        for name in self.apt("apt-cache", "pkgnames", prefix).split():
            if release := re.fullmatch(rf"linux-binary-({re.escape(SERIES)}\.\d+\S*)-amd64", name):
                if "cloud" not in name and "-rt-" not in name:
                    shown = self.apt("apt-cache", "show", "--no-all-versions", name)
                    releases[re.search(r"^Version: (\S+)", shown, re.M)[1]] = release[1]
        for version in sources:
            if version in releases:
                return version, releases[version]
        return die(f"Debian's {SUITE} has no kernel {SERIES} with its source any more; build the "
                   "module for your own kernel: make KDIR=")

    # What is in the cache.

    def version(self):
        """Version of the packages and release, of what is in the cache, or else Debian's newest."""
        return tuple(self.known.read_text().split()) if self.known.exists() else self.newest

    def packages(self, name):
        """Where the packages of a kernel, or the source, are extracted."""
        return self.home / "packages" / name

    def release(self, flavour):
        """uname -r."""
        return f"{self.version()[1]}-{FLAVOURS[flavour]}"

    def modules(self, flavour):
        """What is /lib/modules/RELEASE there: vmlinuz, config and the modules."""
        return self.packages(flavour) / "usr/lib/modules" / self.release(flavour)

    def headers(self, flavour):
        return self.packages(flavour) / "usr/src" / f"linux-headers-{self.release(flavour)}"

    def fetch(self, name, *packages):
        """Fetch packages of the cache's version and extract them."""
        if self.packages(name).exists():
            return
        if self.newest != self.version():
            # Debian no longer has all of the old one, and all has to be of one version.
            note(f"Debian has Linux {self.newest[0]} now, which takes the place of "
                 f"{self.version()[0]}")
        self.known.write_text(" ".join(self.newest))
        version, _ = self.newest
        self.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.home) as scratch:
            uris = self.apt("apt-get", "download", "--print-uris",
                            *(f"{package}={version}" for package in packages))
            size = sum(int(size) for size in re.findall(r"^'\S+' \S+ (\d+)", uris, re.M))
            note(f"fetching {packages[0]}" + (f" and {len(packages) - 1} more" if packages[1:]
                                              else "") + f" ({size >> 20} MB)")
            with phase(f"fetching the packages of {name}"):
                self.apt("sh", "-c", 'cd "$0" && exec apt-get download "$@"', scratch,
                         *(f"{package}={version}" for package in packages))
                for deb in sorted(os.listdir(scratch)):
                    subprocess.run(["dpkg-deb", "-x", f"{scratch}/{deb}", f"{scratch}/all"],
                                   check=True)
            self.packages(name).parent.mkdir(exist_ok=True)
            os.rename(f"{scratch}/all", self.packages(name))

    def get_kernel(self, flavour):
        """The kernel as it is, its modules, and what its linux-headers have."""
        if not self.packages(flavour).exists():
            self.fetch(flavour, *(f"{part}-{self.newest[1]}-{FLAVOURS[flavour]}"
                                  for part in PARTS))

    def get_source(self):
        """The source, unpacked."""
        with locked(self.home):
            if self.tree.exists():
                return
            self.fetch("source", SOURCE)
            note(f"unpacking {SOURCE}")
            new = self.home / "src.new"
            shutil.rmtree(new, ignore_errors=True)
            try:
                with phase(f"unpacking {SOURCE}"):
                    prepare.unpack(self.packages("source") / f"usr/src/{SOURCE}.tar.xz", new, True)
            except prepare.Refused as error:
                die(str(error))
            new.rename(self.tree)
