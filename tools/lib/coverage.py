# SPDX-License-Identifier: GPL-2.0
"""Line coverage of the module: from counters that VMs saved to lines, and whether each line that no
test reaches is listed in Documentation/coverage.md with a reason.
"""

import dataclasses
import re
import shlex
import struct
import subprocess

from common import CLONE, die

PAGE = CLONE / "Documentation/coverage.md"
# What the module is built from.
SOURCES = ("*.rs", "lock/*.rs", "mm/*.rs")
LCOV = "lines.lcov"
# The sections that a profile consists of: what is counted, the counters, the names of functions.
DATA, COUNTERS, NAMES = SECTIONS = ("__llvm_prf_data", "__llvm_prf_cnts", "__llvm_prf_names")
# How LLVM 19 and 20 begin a raw profile.
MAGIC, VERSION, LAST_VALUE_KIND = int.from_bytes(b"\xfflprofr\x81", "big"), 10, 2
DATA_SIZE, COUNTER_SIZE = 64, 8

TESTS = re.compile(r"#\[kunit_tests\(")
FUNCTION = re.compile(r"\bfn (\w+)")
HEADING = re.compile(r"### (\S+\.rs)(?:: (\w+))?$")
TABLE = re.compile(r"^\| File \|.*?(?=^[^|]|\Z)", re.M | re.S)


def save_command(ko, peek):
    """What saves the counters in /run/vm; for the environment of selftests/run."""
    printed = subprocess.run(["size", "-A", ko], check=True, text=True, stdout=subprocess.PIPE)
    lengths = dict(re.findall(r"^(\S+) +(\d+) ", printed.stdout, re.M))
    return shlex.join([f"{CLONE}/tools/guest/counters", "/run/vm", str(peek),
                       ",".join(f"{name}={lengths[name]}" for name in SECTIONS)])


def raw_profile(saved):
    """What LLVM's runtime would have written, from the sections saved in a directory."""
    data, counters, names = [(saved / name).read_bytes() for name in SECTIONS]
    at = {name: int((saved / f"{name}.address").read_text(), 16) for name in SECTIONS}
    if len(data) % DATA_SIZE or len(counters) % COUNTER_SIZE or not data:
        raise ValueError(f"the counters in {saved} are not those of LLVM 19")
    header = struct.pack(
        "<16Q", MAGIC, VERSION, 0, len(data) // DATA_SIZE, 0, len(counters) // COUNTER_SIZE,
        0, 0, 0, len(names), (at[COUNTERS] - at[DATA]) % 2**64, 0, at[NAMES], 0, 0,
        LAST_VALUE_KIND)
    return header + data + counters + names + bytes(-len(names) % 8)


def count(ko, saved, out):
    """How often the lines of each source were reached, from counters that were saved while this
    module was loaded. Leaves the lines in `out`, for people and for other tools.
    """
    profiles = []
    for number, directory in enumerate(saved):
        profiles.append(out / f"{number}.profraw")
        profiles[-1].write_bytes(raw_profile(directory))
    merged = out / "merged.profdata"
    subprocess.run(["llvm-profdata", "merge", "-o", merged, *profiles], check=True)
    export = ["llvm-cov", "export", "--format=lcov", f"--instr-profile={merged}", ko]
    lcov = subprocess.run(export, check=True, text=True, stdout=subprocess.PIPE).stdout
    for file in [*profiles, merged]:
        file.unlink()
    (out / LCOV).write_text(lcov)
    return of_module(lcov)


def of_module(lcov):
    """How often the lines of code of each source were reached, without those of tests."""
    found = {name: only_code((CLONE / name).read_text().splitlines(), counts)
             for name, counts in read_lcov(lcov).items()}
    if not any(found.values()):
        raise ValueError("no line of the module was counted")
    return found


def read_lcov(text):
    """The counts of the lines of each of our sources."""
    sources = {str(path): str(path.relative_to(CLONE))
               for pattern in SOURCES for path in CLONE.glob(pattern)}
    found, counts = {}, {}
    for line in text.splitlines():
        field, _, value = line.partition(":")
        if field == "SF":
            counts = found.setdefault(sources[value], {}) if value in sources else {}
        elif field == "DA":
            number, times = value.split(",")[:2]
            counts[int(number)] = counts.get(int(number), 0) + int(times)
    return found


def only_code(lines, counts):
    """The counts of lines of code: neither blank, nor a comment, nor of a KUnit test. Such tests
    are blocks that begin and end in column 0.
    """
    others, within = set(), False
    for number, line in enumerate(lines, 1):
        within = within or bool(TESTS.match(line))
        if within or not line.strip() or line.strip().startswith("//"):
            others.add(number)
        within = within and line != "}"
    return {number: times for number, times in counts.items() if number not in others}


@dataclasses.dataclass
class Reason:
    """Lines that no test reaches, as the documentation lists them."""
    # The line of the documentation.
    where: int
    file: str
    function: str
    code: list = dataclasses.field(default_factory=list)
    text: str = ""

    def places(self, lines):
        """The lines of the file that it lists, for each time that what it quotes is there, each
        with whether some runs do reach it.

        What is quoted behind "= " only says where that is.
        """
        wanted = [re.sub("^[=?] ", "", line).strip() for line in self.code]
        listed = [(n, line.startswith("? ")) for n, line in enumerate(self.code, 1)
                  if not line.startswith("= ")]
        stripped = [line.strip() for line in lines]
        for first in range(len(lines) - len(wanted) + 1):
            if wanted and stripped[first:first + len(wanted)] == wanted \
                    and self.function in ("", function_of(lines, first)):
                yield [(first + n, sometimes) for n, sometimes in listed]


def function_of(lines, index):
    """The function that a line is in, the nearest one that begins before it."""
    for line in reversed(lines[:index + 1]):
        if match := FUNCTION.search(line):
            return match.group(1)
    return ""


def read_reasons(text):
    """The reasons in a page: a heading that names file and function, the code, why."""
    reasons, reason, fenced = [], None, False
    for number, line in enumerate(text.splitlines(), 1):
        if (match := HEADING.match(line)):
            reason = Reason(number, match.group(1), match.group(2) or "")
            reasons.append(reason)
        elif not fenced and line.startswith("#"):
            reason = None
        elif line.startswith("```"):
            fenced = not fenced
        elif reason and fenced:
            reason.code.append(line)
        elif reason:
            reason.text += line.strip()
    return reasons


def mismatches(counts, page=None, sources=None):
    """What is wrong: lines that are neither reached nor listed, and what is listed in vain."""
    reasons = read_reasons(PAGE.read_text() if page is None else page)
    sources = sources or {str(path.relative_to(CLONE)): path.read_text().splitlines()
                          for pattern in SOURCES for path in CLONE.glob(pattern)}
    wrong, listed = [], set()
    for reason in reasons:
        lines, here = sources.get(reason.file, []), counts.get(reason.file, {})
        at = f"{PAGE.relative_to(CLONE)}:{reason.where}"
        places = list(reason.places(lines))
        numbers = {number: sometimes for place in places for number, sometimes in place
                   if number in here}
        listed |= {(reason.file, number) for number in numbers}
        reached = sorted(number for number, sometimes in numbers.items()
                         if here[number] and not sometimes)
        if not reason.text:
            wrong.append(f"{at}: there is no reason")
        if not places:
            wrong.append(f"{at}: there are no such lines in {reason.file}")
        elif reached:
            wrong.append(f"{at}: {reason.file}:{reached[0]} is reached")
        elif not all(any(number in numbers for number, _ in place) for place in places):
            wrong.append(f"{at}: there is nothing to reach")
    for file, here in counts.items():
        for number in sorted(n for n, times in here.items() if not times):
            if (file, number) not in listed:
                # The source may have become shorter since.
                code = "".join(sources.get(file, [])[number - 1:number]).strip()
                wrong.append(f"{file}:{number} is not reached, and no reason is listed: {code}")
    return wrong


def sums(counts):
    """How many lines there are and how many of them are reached, by file and of all."""
    found = {file: (len(here), sum(times > 0 for times in here.values()))
             for file, here in sorted(counts.items()) if here}
    return {**found, "all": tuple(map(sum, zip(*found.values())))} if found else {}


def percent(lines, reached):
    """Rounded down: 100 % is all of them."""
    return f"{reached * 1000 // lines / 10:.1f} %"


def summary(counts):
    lines, reached = sums(counts)["all"]
    return f"{percent(lines, reached)} of {lines} lines of the module, all but {lines - reached}"


def text(counts):
    """The sums as lines for people."""
    if not counts:
        return []
    return ([f"coverage: {summary(counts)}", ""]
            + [f"{file:<46}{reached:>8}{lines:>8}{percent(lines, reached):>9}"
               for file, (lines, reached) in sums(counts).items() if file != "all"])


def table(counts):
    """The sums as a table of the documentation."""
    rows = ["| File | Lines | Reached | |", "|---|--:|--:|--:|"]
    rows += [f"| {file} | {lines} | {reached} | {percent(lines, reached)} |"
             for file, (lines, reached) in sums(counts).items()]
    return "\n".join(rows) + "\n"


def update(counts):
    """Put the table into the documentation."""
    page = PAGE.read_text()
    if not TABLE.search(page):
        die(f"no table of the files in {PAGE}")
    PAGE.write_text(TABLE.sub(lambda _: table(counts), page))
