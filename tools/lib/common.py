# SPDX-License-Identifier: GPL-2.0
"""What tools/kernel and tools/vm share: where things are, how to speak, how to stop."""

import contextlib
import fcntl
import os
import pathlib
import sys
import time

CLONE = pathlib.Path(__file__).resolve().parents[2]


def enter_toolchain():
    """Start over where the build tools are, unless this is the place already."""
    if not os.environ.get("MLOCK_RS_INSIDE"):
        toolchain = str(CLONE / "tools/toolchain")
        os.execv(toolchain, [toolchain, "run", os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def cache():
    """The cache directory; tools/toolchain has made it and exported its name."""
    return pathlib.Path(os.environ["MLOCK_RS_CACHE"])


def name():
    """How this tool is called in its messages."""
    return os.path.basename(sys.argv[0])


def note(text):
    print(f"{name()}: {text}", file=sys.stderr, flush=True)


def die(text, status=1):
    note(text)
    sys.exit(status)


def say_interrupted(kind, value, trace):
    """Who presses Ctrl-C knows where they are."""
    if issubclass(kind, KeyboardInterrupt):
        note("interrupted")
    else:
        sys.__excepthook__(kind, value, trace)


sys.excepthook = say_interrupted


class Progress:
    """A line about something slow: rewritten on a terminal, printed every 30 s elsewhere."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.start = self.last = time.monotonic()

    def show(self, text, at_once=False):
        now = time.monotonic()
        if now - self.last < (0.2 if self.terminal else 30) and not (self.terminal and at_once):
            return
        self.last = now
        text = f"{name()}: {text}, {int(now - self.start)} s"
        if self.terminal:
            print(f"\r{text[:99]}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def done(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        return int(time.monotonic() - self.start)


PHASES = CLONE / "build/phases"
# From so many seconds on.
WORTH_TELLING = 3


@contextlib.contextmanager
def phase(what):
    """Something long that a cold run has to do: how long it takes is told in the end."""
    begun = time.monotonic()
    yield
    seconds = time.monotonic() - begun
    if seconds > WORTH_TELLING:
        PHASES.parent.mkdir(exist_ok=True)
        with open(PHASES, "a") as file:
            file.write(f"{seconds:.0f}\t{what}\n")


def phases():
    """A line for each phase of this run so far. Some of them are side by side."""
    lines = PHASES.read_text().splitlines() if PHASES.exists() else []
    return [f"{int(seconds):>6} s  {what}"
            for seconds, what in (line.split("\t") for line in lines)]


@contextlib.contextmanager
def locked(directory, shared=False):
    """Only one at a time may change what is in the directory; many may use it, shared."""
    directory.mkdir(parents=True, exist_ok=True)
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with open(directory / "lock", "w") as lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for another run that {'changes' if shared else 'uses'} {directory}")
            fcntl.flock(lock, how)
        yield
