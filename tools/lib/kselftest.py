# SPDX-License-Identifier: GPL-2.0
"""Runs the selftests in a VM, and reads what they print (TAP)."""

import os
import re
import shlex
import subprocess

from build import selftests
from common import CLONE

# The last line of selftests/run.
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)


def disk(name="selftests"):
    """An empty ext4 file system for the tests that need a file on a disk."""
    image = CLONE / f"build/{name}.img"
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", image], check=True)
    return image


def command(module, tests, image, timeout, first="", last="", options=()):
    """The command that runs these tests (all of them if there are none) with this module.

    `first` and `last` are shell code for the guest, before and after the tests.
    """
    settings = [f"{name}={os.environ[name]}" for name in ("SEED", "STORM_SECONDS")
                if os.environ.get(name)]
    run = shlex.join(["env", f"MODULE={module}", "TEST_DISK=/tmp/disk", *settings,
                      f"{selftests()}/run", *tests])
    return ["tools/vm", "run", "--disk", str(image), "--timeout", str(timeout), *options,
            "--", "sh", "-c", f"{first} mkdir /tmp/disk && mount /dev/vda /tmp/disk && {run}{last}"]


def failures(output):
    """The tests that failed, as selftests/run takes them, and the programs that broke off."""
    failed, program = [], "?"
    for line in output.splitlines():
        if found := re.match(r"# (?:Subtest: )?(\w+_test)$", line):
            program = found.group(1)
        elif found := re.match(r"not ok \d+ (\S+)", line):
            failed.append(f"{program}:{found.group(1)}")
        elif re.match(rf"# {program}: (ended with|no test ran|exit status [^0])", line):
            failed.append(program)
    return failed
