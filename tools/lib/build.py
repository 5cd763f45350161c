# SPDX-License-Identifier: GPL-2.0
"""Builds what goes into a VM: the module and the selftests."""

import functools
import os
import subprocess
import sys

from common import CLONE


def output_of(*command, **environment):
    """What a tool of ours prints; its failure, which it has explained, is ours too."""
    done = subprocess.run(command, cwd=CLONE, check=False, text=True, stdout=subprocess.PIPE,
                          env={**os.environ, **environment})
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def kernel_source():
    return output_of("tools/kernel", "src")


@functools.cache
def module(kernel, coverage=False):
    """The module for a kernel, which is got first if need be. With `coverage` one that counts how
    often its lines are reached."""
    return output_of("tools/module", kernel, COVERAGE="1" if coverage else "")


@functools.cache
def peek(kernel):
    """The module that shows kernel memory."""
    return output_of("tools/module", kernel, COVERAGE="", SRC=str(CLONE / "tools/guest/peek"),
                     OUT=str(CLONE / f"build/{kernel}-peek"))


@functools.cache
def selftests(*programs):
    """The directory with the tests and the demo, all of them or only these."""
    out = CLONE / "build/selftests"
    output_of("make", "-s", f"-j{os.cpu_count()}", "-C", "selftests", f"KSRC={kernel_source()}",
              f"OUT={out}", *(f"{out}/{program}" for program in programs))
    return out


@functools.cache
def bench_programs():
    """The directory with the programs of the benchmark."""
    out = CLONE / "build/bench"
    output_of("make", "-s", "-C", "bench", f"KSRC={kernel_source()}", f"OUT={out}")
    return out
