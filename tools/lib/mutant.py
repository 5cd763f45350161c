# SPDX-License-Identifier: GPL-2.0
"""A mutant: a patch that makes the module wrong in one way, and what is known about it.

It begins with lines "Name: value", up to an empty line:

    Wrong: what is wrong, for the reader
    Expect: the tests that are to fail, as selftests/run takes them
    Hang: yes       the VM may hang; that is how it is caught
    Log: yes        the kernel may complain in its log; that is how it is caught
    Needs: what the VM must have, a key of NEEDS
"""

import re
import subprocess

from common import CLONE, die

HOME = CLONE / "selftests/mutants"
# Shell code that fails where the VM does not have it, and how to say so.
NEEDS = {"lam": ("grep -qw lam /proc/cpuinfo", "the VM's processor ignores no address tags")}
# What the module is built from.
SOURCES = ("Kbuild", "*.rs", "lock/*.rs", "mm/*.rs", "include/uapi/linux/*.h")


class Mutant:
    """One patch of selftests/mutants."""

    def __init__(self, path):
        self.path, self.name = path, path.stem
        head, _, self.diff = path.read_text().partition("\n\n")
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        self.wrong = fields.pop("Wrong")
        self.expect = fields.pop("Expect").split()
        self.may_hang = fields.pop("Hang", "") == "yes"
        self.may_log = fields.pop("Log", "") == "yes"
        self.needs = fields.pop("Needs", None)
        if fields or self.needs not in (None, *NEEDS):
            raise ValueError(f"{path.name}: unknown {', '.join(fields) or self.needs}")

    def apply(self, tree):
        """Change the sources in a tree. Returns what patch(1) has to say, "" if it succeeded."""
        done = subprocess.run(["patch", "-p1", "-F0", "-s", "-r-", "--no-backup-if-mismatch"],
                              input=self.diff, cwd=tree, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout or f"status {done.returncode}" if done.returncode else ""


def mutants(names=()):
    """All of them, or those whose name begins with one of these, each of which has to be one."""
    found = {path.name for path in HOME.glob("*.patch")}
    for name in names:
        if not any(each.startswith(name) for each in found):
            die(f"there is no mutant '{name}'")
    return [Mutant(path) for path in sorted(HOME.glob("*.patch"))
            if not names or any(path.name.startswith(name) for name in names)]


def copy_sources(tree):
    """The module's sources as they are. What has not changed is not written, for make."""
    for pattern in SOURCES:
        for file in CLONE.glob(pattern):
            copy, text = tree / file.relative_to(CLONE), file.read_bytes()
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.read_bytes() != text:
                copy.write_bytes(text)


def known_tests():
    """The names of all tests, as selftests/run takes them."""
    known = set()
    for file in (CLONE / "selftests").glob("*_test.c"):
        text, program = file.read_text(), file.stem
        if "TEST_HARNESS_MAIN" not in text:
            continue
        known.add(program)
        known |= {f"{program}:global.{test}" for test in re.findall(r"^TEST\((\w+)\)", text, re.M)}
        variants = {}
        for fixture, variant in re.findall(r"^FIXTURE_VARIANT_ADD\((\w+),\s*(\w+)\)", text, re.M):
            variants.setdefault(fixture, []).append(f"{fixture}.{variant}")
        for fixture, test in re.findall(r"^TEST_F(?:_\w+)?\((\w+),\s*(\w+)", text, re.M):
            known |= {f"{program}:{prefix}.{test}" for prefix in variants.get(fixture, [fixture])}
    return known
