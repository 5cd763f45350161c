# SPDX-License-Identifier: GPL-2.0
"""The parts of a test run: a command that prints TAP, or the kselftests in a VM. Each leaves its
results in a directory: the TAP, a JUnit file, and for a VM the kernel log.
"""

import dataclasses
import json
import os
import re
import select
import shutil
import subprocess
import time

import coverage
import junit
import klog
import kselftest
import tap
from build import module, peek, selftests
from common import CLONE

# The kernels with checkers are several times slower under emulation.
TIMEOUT = {"amd64": 900, "cloud": 900, "rt": 1200, "debug": 1800, "kcsan": 1800}
# The kernels that have KUnit.
KUNIT = ("debug", "kcsan")
# What takes long, in seconds, about.
SECONDS = {
    "amd64": {
        "differential_test": 78, "fuzz_test": 48, "kill_test": 42, "linear_test": 28,
        "storm_test": 26, "interleave_reader_test": 11, "storm_ops_test": 10, "module_test": 9,
        "uffd_test": 8, "yield_test": 8, "huge_test": 5, "interleave_test": 5, "swap_test": 5,
        "interleave_end_test": 4, "workers_test": 4, "samples_test": 4, "abi_query_test": 4,
        "vector_test": 3},
    "debug": {
        "kill_test": 73, "workers_test": 39, "interleave_reader_test": 37, "atomic_test": 34,
        "no_memory_test": 34, "interleave_test": 31, "storm_test": 29, "fuzz_test": 28,
        "yield_test": 28, "uffd_test": 21, "abi_query_test": 20, "swap_test": 20,
        "samples_test": 20, "stall_test": 18, "vector_test": 16, "low_memory_test": 16,
        "ungoverned_test": 14, "io_error_test": 14, "module_test": 14, "interleave_end_test": 14,
        "linear_test": 14, "differential_test": 13, "query_test": 12, "storm_ops_test": 12,
        "lock_test": 11, "progress_test": 11, "linearize_test": 8, "truncate_test": 6,
        "protocol_test": 6, "stats_test": 6, "hole_test": 4, "many_test": 4, "abi_test": 3},
    "kcsan": {
        "kill_test": 61, "workers_test": 48, "stall_test": 33, "storm_test": 33,
        "interleave_reader_test": 31, "interleave_test": 23, "low_memory_test": 23,
        "yield_test": 20, "swap_test": 17, "uffd_test": 14, "abi_query_test": 13,
        "query_test": 12, "interleave_end_test": 11, "storm_ops_test": 11, "ungoverned_test": 11,
        "samples_test": 10, "progress_test": 10, "vector_test": 10, "differential_test": 10,
        "module_test": 9, "linear_test": 9, "lock_test": 9, "fuzz_test": 9, "io_error_test": 7,
        "huge_test": 6, "atomic_test": 6, "truncate_test": 5, "linearize_test": 4,
        "protocol_test": 4, "memcg_test": 4, "many_test": 4},
}
KUNIT_TESTS = re.compile(r"^#\[kunit_tests\((\w+)\)\]", re.M)
# From here on it is an exit status of tools/vm itself: too long, or the VM broke.
VM_FAILED = 124


def arriving(pipe, tick):
    """The lines of a pipe as they arrive. Calls `tick` while there are none."""
    rest = b""
    while True:
        while not select.select([pipe], [], [], 0.5)[0]:
            tick()
        data = os.read(pipe.fileno(), 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
        tick()
    if rest:
        yield rest.decode(errors="replace")


class Part:
    """One part: its tests, and the directory with its results, emptied first.

    With `again` the results stay if they are good, and of the same sources: nothing has to run.
    """

    KNOWN = "passed.json"

    def __init__(self, name, directory, screen, sources="", again=False):
        self.name, self.directory, self.screen = name, directory, screen
        self.tests, self.summed, self.sources = [], False, sources
        self.is_known = again and self.recall()
        if not self.is_known:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)

    def recall(self):
        """Take the tests from the last run, if that was about these sources and all passed."""
        try:
            known = json.loads((self.directory / self.KNOWN).read_text())
        except (OSError, ValueError):
            return False
        if known["sources"] != self.sources:
            return False
        self.tests = [tap.Test(**test) for test in known["tests"]]
        return True

    def remember(self):
        """Keep the tests for the next run, if all passed."""
        if self.sources and all(test.status != tap.FAIL for test in self.tests):
            known = {"sources": self.sources,
                     "tests": [dataclasses.asdict(test) for test in self.tests]}
            (self.directory / self.KNOWN).write_text(json.dumps(known))

    def relative(self):
        """The directory as seen from the clone."""
        return os.path.relpath(self.directory, CLONE)

    def file(self, name, line=None):
        """How to refer to one of the files, or a line of it."""
        return f"{self.relative()}/{name}" + (f":{line}" if line else "")

    def groups(self):
        names = dict.fromkeys(test.group for test in self.tests)
        return {name: [t for t in self.tests if t.group == name] for name in names}

    def add(self, test):
        self.tests.append(test)
        self.screen.test(test)

    def fail(self, group, name, **more):
        self.add(tap.Test(group, name, tap.FAIL, **more))

    def run(self, command, tap_name, group=None, **options):
        """Run a command that prints TAP and, in the end, a sum; return its exit status."""
        stream = tap.Stream(group, time.monotonic())
        document = tap.Document(self.directory / tap_name, group)

        def take(tests):
            for test in tests:
                test.where = self.file(tap_name, document.lines)
                self.add(test)

        def tick():
            program = stream.group or f"{self.name}: between programs"
            self.screen.now(program + (f":{stream.running}" if stream.running else ""),
                            stream.since)

        with subprocess.Popen(command, cwd=CLONE, stdout=subprocess.PIPE, **options) as process:
            for line in arriving(process.stdout, tick):
                ended = stream.feed(line, time.monotonic())
                document.line(line, ended)
                take(ended)
            status = process.wait()
        ended = stream.end(time.monotonic(), f"the run ended with exit status {status}")
        document.close(ended)
        take(ended)
        self.compare(stream.summary, tap_name)
        return status

    def compare(self, summary, tap_name):
        """The sum that the command prints has to be that of the tests that were seen."""
        self.summed, seen = summary is not None, tap.counts(self.tests)
        if self.summed and summary != seen:
            self.fail("run", "sum", where=self.file(tap_name),
                      reason="it says {} passed, {} failed, {} skipped".format(*summary)
                      + ", but there were {}, {}, {}".format(*seen))

    def close(self, status, lines=()):
        """The end: was there a failure that no test has told?"""
        failed = any(test.status == tap.FAIL for test in self.tests)
        if status >= VM_FAILED or not self.summed or status and not failed:
            self.fail("run", "end", lines=list(lines), where=self.relative(),
                      reason=f"exit status {status}" + ("" if self.summed else ", no sum"))
        self.end()

    def end(self):
        """There are no more tests."""
        junit.write(self.directory / "junit.xml", self.name, self.tests)
        self.remember()

    def counters(self):
        """Where a module that counts its lines left what it has counted."""
        return [self.directory / "counters" / name for name in ("loaded", "tested")]


def shards(kernel, number):
    """All test programs, dealt out to VMs that run at the same time: the longest ones first.

    module_test begins in its VM. It unloads the module, with what that has counted so far.
    """
    dealt, seconds = [[0, []] for _ in range(number)], SECONDS.get(kernel, SECONDS["amd64"])
    names = sorted(program.name for program in selftests().glob("*_test"))
    for name in sorted(names, key=lambda name: -seconds.get(name, 1)):
        least = min(dealt, key=lambda shard: shard[0])
        least[0] += seconds.get(name, 1)
        least[1].append(name)
    return [sorted(programs, key=lambda name: (name != "module_test", name))
            for _, programs in dealt]


def kselftests(part, kernel, programs, settings, timeout=None, covered=False):
    """Run the kselftests in a VM, all or some. KUnit and the kernel log are heard too.

    With `covered` the module counts how often its lines are reached.
    """
    log, said = part.directory / "kernel.log", part.directory / "vm.log"
    ko, options = module(kernel, covered), []
    if covered:
        settings = {**settings, "COUNTERS": coverage.save_command(ko, peek(kernel))}
        options = ["--results", str(part.directory / "counters")]
    with open(said, "wb") as stderr:
        status = part.run(
            kselftest.command(ko, programs, kselftest.disk(part.name),
                              "--kernel", kernel, "--log", str(log), *options,
                              "--timeout", str(timeout or TIMEOUT[kernel]),
                              gigantic=kernel != "debug", **settings),
            "selftests.tap", stderr=stderr)
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = text.replace("\r", "").splitlines()
    add_kernel_log(part, lines)
    add_kunit(part, lines, kernel in KUNIT)
    part.close(status, said.read_text(errors="replace").splitlines())


def add_kernel_log(part, lines):
    """Trouble in the kernel log is a failure, whatever the tests say."""
    found = klog.trouble(lines)
    if found:
        part.fail("kernel", "log", reason=f"{len(found)} bad lines",
                  lines=klog.excerpt(lines, found).splitlines(),
                  where=part.file("kernel.log", found[0] + 1))


def kunit_suites():
    """The KUnit suites that the module has."""
    sources = sorted([*CLONE.glob("*.rs"), *CLONE.glob("*/*.rs")])
    return [name for source in sources for name in KUNIT_TESTS.findall(source.read_text())]


def add_kunit(part, lines, expected):
    """The KUnit tests ran when the module was loaded, where the kernel has KUnit."""
    tests = tap.kunit(lines, part.file("kernel.log"))
    ran = {test.group for test in tests}
    for test in tests:
        test.group = f"kunit/{test.group}"
        part.add(test)
    for suite in kunit_suites():
        if expected and suite not in ran:
            part.fail(f"kunit/{suite}", "all tests", reason="the suite did not run",
                      where=part.file("kernel.log"))
