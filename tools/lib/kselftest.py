# SPDX-License-Identifier: GPL-2.0
"""Runs the selftests in a VM with some module: the command, and who failed in what it printed."""

import os
import shlex
import subprocess

import tap
from build import selftests
from common import CLONE

# What the tests read from their environment, and can be given to a run.
SETTINGS = ("SEED", "STORM_SECONDS", "DIFF_STEPS", "REPLAY", "FUZZ_CALLS", "MODULE_ROUNDS")
# With a node to move pages to.
MEMORY = ["--memory", "2688M+128M"]
# With a hugetlb page of 1 GiB, which can only be had at boot. kmemleak looks through all of it
# twice, which takes most of a minute: not on the debug kernel, where pages of 2 MiB have to do.
WITH_GIGANTIC = ["--memory", "3712M+128M", "--append", "hugepagesz=1G hugepages=1"]
NEED_GIGANTIC = {"huge_test", "huge"}


def settings():
    """What is set of them."""
    return {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}


def disk(name="selftests"):
    """An empty ext4 file system for the tests that need a file on a disk."""
    image = CLONE / f"build/{name}.img"
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", image], check=True)
    return image


def command(ko, programs, image, *options, gigantic=True, first="", last="", **environment):
    """The command that runs these tests, all of them if there are none.

    With `gigantic` there is a page of 1 GiB if they need one. `first` and `last` are shell code
    for the guest, before and after the tests.
    """
    environment = {"MODULE": ko, "TEST_DISK": "/tmp/disk", **environment}
    run = shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()),
                      f"{selftests()}/run", *programs])
    guest = f"{first} mkdir /tmp/disk && mount /dev/vda /tmp/disk && {run}{last}".strip()
    # "huge_test:gigantic.part_of_it" is a test of huge_test.
    named = {program.partition(":")[0] for program in programs}
    needed = gigantic and (not named or named & NEED_GIGANTIC)
    memory = WITH_GIGANTIC if needed else MEMORY
    return ["tools/vm", "run", *memory, "--disk", str(image), *options, "--", "sh", "-c", guest]


def failures(output):
    """The tests that failed, as selftests/run takes them, and what became of others."""
    stream = tap.Stream()
    for line in output.splitlines():
        stream.feed(line.rstrip("\r"), 0)
    stream.end(0, "the output ends here")
    return [test.full_name() for test in stream.tests if test.status == tap.FAIL]
