# SPDX-License-Identifier: GPL-2.0
"""What a person sees of a test run: a line for each test, what runs now, and the sum of it all."""

import os
import sys
import threading
import time

from tap import FAIL, OK, SKIP, counts

COLOURS = {FAIL: "\033[1;31m", SKIP: "\033[33m", OK: "\033[32m"}
# What takes longer than that is worth a word.
PATIENCE = 2


def duration(seconds):
    """Seconds as a person reads them."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02} min" if minutes else f"{seconds} s"


class Status:
    """A line at the bottom of a terminal that is rewritten. Nothing where there is no terminal."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.shown, self.last = False, 0.0

    def show(self, text):
        now = time.monotonic()
        if self.terminal and now - self.last >= 0.2:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"\r{text[:width - 1]}\033[K", end="", file=sys.stderr, flush=True)
            self.shown, self.last = True, now

    def clear(self):
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self.shown, self.last = False, 0.0


class Screen:
    """Prints tests as they end. With `quiet` only the status line is left. Threads may share it."""

    def __init__(self, quiet=False, verbose=False):
        self.lock = threading.RLock()
        self.quiet, self.verbose = quiet, verbose
        self.colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self.status = Status()

    def print(self, text=""):
        self.status.clear()
        if not self.quiet:
            print(text, flush=True)

    def coloured(self, status, text):
        return f"{COLOURS[status]}{text}\033[0m" if self.colours else text

    def test(self, test):
        """One line, and what the test wrote if it failed."""
        note = test.note()
        with self.lock:
            self.print(f"{self.coloured(test.status, f'{test.status:<4}')} {test.seconds:>8.2f} s  "
                       f"{test.full_name()}" + (f": {note}" if note else ""))
            if test.status == FAIL or self.verbose:
                self.lines(test.lines if self.verbose else test.excerpt())

    def lines(self, lines):
        for line in lines:
            self.print(f"        {line}")

    def now(self, what, since):
        """What runs now; shown when it takes a while."""
        seconds = time.monotonic() - since
        if seconds >= PATIENCE:
            with self.lock:
                self.status.show(f"...   {what}, {duration(seconds)}")

    def report(self, parts, measured=()):
        """The sums by group, what failed, where to read on. The last line is the sum of all.

        `measured` are lines about something else that was measured.
        """
        self.print(f"\n{'':<46}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
        for part in parts:
            for group, tests in part.groups().items():
                self.row(f"{part.name:<12}{group}", tests)
        if measured:
            self.print()
        for line in measured:
            self.print(line)
        self.failures(parts)
        self.print()
        for part in parts:
            self.print(f"{part.name:<12}{part.relative()}")
        self.print("{} passed, {} failed, {} skipped".format(
            *counts([test for part in parts for test in part.tests])))

    def row(self, title, tests):
        sums = counts(tests)
        text = f"{title:<46}" + "".join(f"{n:>8}" for n in sums)
        text += f"{sum(test.seconds for test in tests):>9.1f}"
        self.print(self.coloured(FAIL, text) if sums[1] else text)

    def failures(self, parts):
        for part in parts:
            for test in part.tests:
                if test.status == FAIL:
                    self.print()
                    self.print(f"{self.coloured(FAIL, FAIL)}  {part.name}  {test.full_name()}"
                               + (f"  {test.reason}" if test.reason else ""))
                    self.lines(test.excerpt())
                    self.lines([f"see {test.where}"] if test.where else [])
