# SPDX-License-Identifier: GPL-2.0
"""Builds what goes into a VM: the module and the selftests."""

import functools
import subprocess
import sys

from common import CLONE


def output_of(*command):
    """What a tool of ours prints; its failure, which it has explained, is ours too."""
    done = subprocess.run(command, cwd=CLONE, check=False, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def kernel_source():
    return output_of("tools/kernel", "src")


@functools.cache
def module(flavour):
    """The module for a flavour of the kernel, which is built first if need be."""
    return output_of("tools/module", flavour)


@functools.cache
def selftests():
    """The directory with the tests and the demo."""
    out = CLONE / "build/selftests"
    output_of("make", "-s", "-C", "selftests", f"KSRC={kernel_source()}", f"OUT={out}")
    return out
