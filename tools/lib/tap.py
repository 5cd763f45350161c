# SPDX-License-Identifier: GPL-2.0
"""Test results: reads the TAP of selftests/run as it arrives and the KTAP of KUnit in a kernel log,
and writes a stream of results as one KTAP document.
"""

import dataclasses
import re

OK, FAIL, SKIP = "ok", "FAIL", "skip"

GROUP = re.compile(r"# Subtest: (\S+)$")
VERSION = re.compile(r"K?TAP version \d+$")
PLAN = re.compile(r"1\.\.(\d+)")
RUN = re.compile(r"#  RUN +(\S+) \.\.\.$")
RESULT = re.compile(r"(not )?ok(?= |$)(?: \d+)?(?: -)? *(.*)$")
EXIT = re.compile(r"# \S+: (exit status (\d+).*)$")
SUMMARY = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped$")
# The harness says it again in the result; KUnit has nothing else to say about a test.
ECHO = re.compile(r"# (?: +(?:OK|FAIL)  \S+|\S+\.speed: \w+)$")
# What a test says with TH_LOG().
LOGGED = re.compile(r"#? *[\w-]+\.c:\d+:\w+:(.*)$")
SEED = re.compile(r"\bSEED=\d+")

# A subtest is indented.
INDENT = "    "
# A line of the kernel log with its time, and with the task or CPU that wrote it.
PRINTK = re.compile(r"\[ *(\d+\.\d+)\](?:\[ *[TC]\d+\])? (.*)$")


@dataclasses.dataclass
class Test:
    """The result of one test, or of so many as did not run."""
    group: str
    name: str
    status: str = OK
    seconds: float = 0.0
    # Why it was skipped, or what became of its program.
    reason: str = ""
    # What it wrote.
    lines: list = dataclasses.field(default_factory=list)
    # The file, and the line in it, that tell more.
    where: str = ""
    count: int = 1

    def full_name(self):
        """As selftests/run takes it."""
        return f"{self.group}:{self.name}"

    def note(self):
        """What there is to say about it in one line, also if it passed."""
        if self.reason or self.status == FAIL:
            return self.reason
        logged = [m.group(1).strip() for line in self.lines if (m := LOGGED.match(line))]
        logged = [text for text in logged if not SEED.match(text)]
        return logged[-1] if logged else ""

    def excerpt(self, most=40):
        """The last lines that it wrote, and every seed."""
        last = len(self.lines) - most
        shown = [line for n, line in enumerate(self.lines) if n >= last or SEED.search(line)]
        if len(shown) < len(self.lines):
            shown.insert(0, f"... {len(self.lines) - len(shown)} lines more, in the file")
        return shown


def counts(tests):
    """How many passed, failed and were skipped."""
    return [sum(t.count for t in tests if t.status == status) for status in (OK, FAIL, SKIP)]


def result(group, bad, text):
    """A test from what follows "ok" or "not ok" and the number."""
    name, _, rest = text.partition("#")
    directive, _, reason = rest.strip().partition(" ")
    name, reason = name.strip(), reason.strip()
    if directive not in ("SKIP", "XFAIL", "XPASS"):
        directive, reason = "", rest.strip()
    if not name:
        name, reason = reason, ""
    # What is expected to fail, and does, has not passed.
    status = FAIL if bad else SKIP if directive in ("SKIP", "XFAIL") else OK
    if directive in ("XFAIL", "XPASS"):
        reason = f"{directive} {reason}".strip()
    return Test(group, name, status, reason=reason)


class Stream:
    """The tests of programs that run one after the other, from their lines as they arrive.

    Believes no program that it ran all of its tests: the plan says how many there have to be.
    """

    def __init__(self, group=None, now=0.0):
        self.tests = []
        # The sum that the runner prints in the end; None until it has.
        self.summary = None
        # A program that the stream names says how it ended; a given one ends with the sum.
        self.given = group
        self.open(group, now)

    def open(self, group, now):
        self.group, self.plan, self.seen, self.failed = group, None, 0, False
        self.next_test(now)

    def next_test(self, now, name=None):
        # What runs now, since when, and what it wrote.
        self.running, self.since, self.lines = name, now, []

    def feed(self, line, now):
        """Take a line that arrived `now`, and return the tests that it ends."""
        before = len(self.tests)
        if match := GROUP.match(line):
            self.close(now, "it did not end before the next one began")
            self.open(match.group(1), now)
        elif VERSION.match(line) or ECHO.match(line):
            pass
        elif match := RUN.match(line):
            self.next_test(now, match.group(1))
        elif self.plan is None and (match := PLAN.match(line)):
            self.plan = int(match.group(1))
            self.next_test(now)
        elif self.group and (match := RESULT.match(line)):
            self.seen += 1
            self.add(result(self.group, *match.groups()), now)
        elif match := EXIT.match(line):
            self.close(now, match.group(1), match.group(2) == "0")
        elif match := SUMMARY.match(line):
            self.close(now, "the run ended", self.group == self.given)
            self.summary = [int(n) for n in match.groups()]
        else:
            self.lines.append(line)
        return self.tests[before:]

    def end(self, now, why, success=False):
        """There are no more lines of the program; return the tests that this ends."""
        before = len(self.tests)
        self.close(now, why, success)
        return self.tests[before:]

    def add(self, test, now):
        test.seconds, test.lines = now - self.since, self.lines
        self.failed = self.failed or test.status == FAIL
        self.tests.append(test)
        self.next_test(now)

    def fail(self, name, reason, now, count=1):
        self.add(Test(self.group, name, FAIL, reason=reason, count=count), now)

    def close(self, now, why, success=False):
        """The program is over: what did it leave undone?"""
        if self.group is None:
            return
        missing = (self.plan or 0) - self.seen
        if missing > 0 and self.running:
            self.fail(self.running, why, now)
            missing -= 1
        if missing > 0:
            self.fail(f"{missing} of {self.plan} tests", f"did not run: {why}", now, missing)
        elif not self.seen and not self.failed:
            self.fail("all tests", f"no test ran: {why}", now)
        elif missing < 0 and self.plan is not None:
            self.fail("plan", f"{self.seen} results of {self.plan} tests", now)
        elif not success and not self.failed:
            self.fail("end", why, now)
        self.open(None, now)


def kunit(log, path):
    """The tests of the KUnit suites that ran, from the lines of the kernel log at `path`.

    A suite runs each time that its module is loaded. A test that failed once has failed.
    """
    stream, found, now, number = Stream(), {}, 0.0, 0

    def keep(tests):
        for test in tests:
            test.where = f"{path}:{number}"
            if test.status == FAIL or test.full_name() not in found:
                found[test.full_name()] = test

    for number, line in enumerate(log, 1):
        if match := PRINTK.match(line):
            now, line = float(match.group(1)), match.group(2)
        inner = line.removeprefix(INDENT)
        if inner != line and (stream.group or GROUP.match(inner)):
            keep(stream.feed(inner, now))
        elif stream.group and (match := RESULT.match(line)):
            failed = bool(match.group(1))
            keep(stream.end(now, "the suite failed" if failed else "the suite ended", not failed))
        elif stream.group:
            stream.lines.append(line)
    keep(stream.end(now, "the kernel log ends here"))
    return list(found.values())


class Document:
    """A KTAP file with each program as a subtest, written while the lines arrive."""

    def __init__(self, path, group=None):
        self.file = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self.path, self.lines, self.groups = path, 0, 0
        self.group, self.failed = None, False
        self.write("KTAP version 1")
        if group:
            self.open(group)

    def write(self, line):
        self.file.write(line + "\n")
        # What there is of it must be there after a crash too.
        self.file.flush()
        self.lines += 1

    def open(self, group):
        self.close_group()
        self.group, self.failed = group, False
        self.write(f"{INDENT}KTAP version 1")
        self.write(f"{INDENT}# Subtest: {group}")

    def line(self, line, tests):
        """Keep a line, which ended these tests."""
        if match := GROUP.match(line):
            self.open(match.group(1))
        elif self.group is None or SUMMARY.match(line):
            self.write(line if line.startswith("#") else f"# {line}")
        elif not VERSION.match(line):
            self.write(INDENT + line)
        self.failed = self.failed or any(test.status == FAIL for test in tests)
        if EXIT.match(line):
            self.close_group()

    def close_group(self):
        if self.group is not None:
            self.groups += 1
            self.write(f"{'not ok' if self.failed else 'ok'} {self.groups} {self.group}")
        self.group, self.failed = None, False

    def close(self, tests):
        """The end, which ended these tests."""
        self.failed = self.failed or any(test.status == FAIL for test in tests)
        self.close_group()
        self.file.close()
