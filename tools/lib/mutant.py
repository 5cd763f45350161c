# SPDX-License-Identifier: GPL-2.0
"""A mutant: what makes the module wrong in one way, and what is known about it; see
selftests/mutants.toml.
"""

import re
import tomllib

from common import CLONE, die

LIST = CLONE / "selftests/mutants.toml"
# Shell code that fails where the VM does not have it, and how to say so.
NEEDS = {"lam": ("grep -qw lam /proc/cpuinfo", "the VM's processor ignores no address tags")}
# What the module is built from.
SOURCES = ("Kbuild", "*.rs", "lock/*.rs", "mm/*.[ch]", "mm/*.rs", "include/uapi/linux/*.h")


class Mutant:
    """One entry of the list."""

    def __init__(self, name, wrong, expect, edit, hang=False, log=False, needs=None):
        self.name, self.wrong, self.expect, self.edits = name, wrong, expect, edit
        self.may_hang, self.may_log, self.needs = hang, log, needs
        if needs not in (None, *NEEDS):
            raise ValueError(f"{name}: unknown needs {needs}")

    def apply(self, tree):
        """Change the sources in a tree. Returns what is wrong with that, "" if nothing is."""
        for edit in self.edits:
            path = tree / edit["file"]
            text = path.read_text()
            if (times := text.count(edit["find"])) != 1:
                return f"{edit['file']} has {times} times: {edit['find']}"
            path.write_text(text.replace(edit["find"], edit["put"]))
        return ""


def mutants(names=()):
    """All of them, or those whose name begins with one of these, each of which has to be one."""
    found = [Mutant(**each) for each in tomllib.loads(LIST.read_text())["mutant"]]
    for name in names:
        if not any(mutant.name.startswith(name) for mutant in found):
            die(f"there is no mutant '{name}'")
    return [mutant for mutant in found
            if not names or any(mutant.name.startswith(name) for name in names)]


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
