# SPDX-License-Identifier: GPL-2.0
"""The benchmark: what is measured, and what the numbers come to. Only tools/bench runs it."""

import csv
import dataclasses
import json
import pathlib
import random
import statistics

CLONE = pathlib.Path(__file__).resolve().parents[2]
EMULATED = "Under emulation (QEMU's TCG): compare the ratios, not the times with your machine's."
MIB, GIB = 1 << 20, 1 << 30
# With how many threads it is compared how fast that is.
WORKERS_BYTES = 128 * MIB

# How the contenders are called, in the order of the tables. {w}: how many threads.
NAMES = {
    "mlock": "mlock(2)",
    "onfault": "mlock2(ONFAULT); touch it",
    "map-populate": "mmap(LOCKED|POPULATE)",
    "madvise": "MADV_POPULATE, {w}; mlock(2)",
    "write-held": "write lock throughout",
    "lock": "mlock_rs LOCK, {w}",
    "lockv": "mlock_rs LOCKV",
    "yield": "mlock_rs YIELD, {w}",
    "lock-onfault": "mlock_rs ONFAULT; touch it",
    "none": "(nothing is locked)",
}
LOADS = {
    "anon": "anonymous, 4 KiB pages",
    "resident": "anonymous, resident",
    "locked": "anonymous, locked already",
    "thp": "anonymous, huge pages",
    "shared": "shared memory",
    "file-warm": "file, in the page cache",
    "file-cold": "file, on the disk",
    "ranges": "small ranges, new",
    "ranges-resident": "small ranges, resident",
    "ranges-locked": "small ranges, locked already",
    "ranges-near": "small ranges, new, several a page",
    "ranges-near-resident": "small ranges, resident, several a page",
}
RANGES = [load for load in LOADS if load.startswith("ranges")]
PROBES = {
    "fault": "page fault elsewhere",
    "mmap": "mmap, munmap",
    "thread": "thread start",
    "cmdline": "/proc/PID/cmdline",
    "maps": "/proc/PID/maps",
    "call": "SIGKILL to end of call",
    "death": "SIGKILL to death",
}
# Which numbers of a result count, for each kind of measurement.
VALUES = {
    "time": ("ns",),
    "hold": ("write_ns", "write_longest_ns", "read_ns", "read_longest_ns"),
    "stall": ("p50_ns", "p99_ns", "max_ns", "ns"),
    "kill": ("ns",),
    "wrong": ("wrong_per_1000", "failed_per_1000"),
}
PROGRAMS = {"time": "lock", "hold": "lock", "stall": "stall", "kill": "kill", "wrong": "wrong"}
# How often it is measured: what takes seconds, what takes milliseconds and has the machine's moods in
# it, and what is there to be seen, not to be compared to the last digit.
LONG, ROUNDS, FEW = 7, 11, 7
# How often a run repeats what takes a few milliseconds, of which it tells the median: else it would be
# of QEMU, which translates code when it runs for the first time.
SHORT = {"ranges": 3, "ranges-resident": 3, "ranges-locked": 5, "ranges-near": 5,
         "ranges-near-resident": 5}
# What tools/plots draws, and of which measurement.
PLOTS = {"stall": "stall", "throughput": "time", "size": "time", "hold": "hold", "wrong": "wrong"}
FIELDS = ("measure", "load", "bytes", "nr", "probe", "contender", "workers", "value", "median",
          "min", "max", "runs", "ratio")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One thing to measure, several times."""

    measure: str
    contender: str
    workers: int = 1
    load: str = "anon"
    bytes: int = GIB
    nr: int = 1
    probe: str = ""
    rounds: int = dataclasses.field(default=ROUNDS, compare=False)
    # More for the program.
    options: tuple = dataclasses.field(default=(), compare=False)

    def arguments(self):
        """The program and its arguments."""
        line = [PROGRAMS[self.measure], "--contender", self.contender, "--workers", self.workers,
                "--load", self.load, "--size", f"{self.bytes // 1024}K", "--nr", self.nr]
        if self.probe:
            line += ["--probe", self.probe]
        if self.measure == "hold":
            line.append("--trace")
        return [str(word) for word in (*line, *self.options)]

    def name(self):
        return contender_name(self.contender, self.workers)

    def reference(self):
        """The same with mlock(2)."""
        return dataclasses.replace(self, contender="mlock", workers=1)


def contender_name(contender, workers):
    threads = {0: "as many as it likes", 1: "alone"}.get(workers, f"{workers} threads")
    return NAMES[contender].format(w=threads)


def size_name(size):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} bytes"


def duration(ns):
    """Three digits are enough."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= unit:
            value = ns / unit
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {name}"
    return f"{ns:.0f} ns"


def each(measure, contenders, **fields):
    """Cells that differ in the contender: "lock*2" is LOCK with two workers."""
    for text in contenders.split():
        contender, _, workers = text.partition("*")
        yield Cell(measure, contender, int(workers or 1), **fields)


def plan(full=False, cpus=2):
    """All cells. What is not `full` takes about 10 minutes under emulation."""
    best, cells = f"madvise*{cpus}", []
    ours = f"lock*1 lock*{cpus} yield*{cpus}"
    few = ROUNDS if full else FEW

    def add(measure, contenders, **fields):
        cells.extend(each(measure, contenders, **fields))

    add("time", f"mlock {best} {ours} yield*1", rounds=LONG)
    add("time", f"mlock {best} {ours}", load="thp", bytes=128 * MIB)
    add("time", f"mlock {best} {ours}", load="resident", bytes=256 * MIB)
    add("time", f"mlock {best} map-populate {ours}", load="file-cold", bytes=128 * MIB)
    for load in RANGES:
        add("time", "mlock lock lockv", load=load, nr=1000,
            bytes=(500 if "near" in load else 8000) << 10, options=("--repeat", SHORT[load]))

    add("time", f"mlock onfault lock-onfault map-populate madvise*1 write-held {best} {ours} "
        "yield*1 lock*0", bytes=WORKERS_BYTES, rounds=few)
    for workers in range(1, (4 if full else 3) + 1):
        add("time", f"madvise*{workers} lock*{workers}", bytes=WORKERS_BYTES, rounds=few)
    for size in (16, 64) if not full else (16, 64, 512, 2048, 4096, 8192):
        add("time", f"mlock {best} {ours}", bytes=size * MIB, rounds=few)
    add("time", f"mlock {best} map-populate {ours}", load="shared", bytes=64 * MIB, rounds=few)
    add("time", f"mlock {best} map-populate {ours}", load="file-warm", bytes=128 * MIB)
    add("time", f"mlock {best} {ours}", load="locked", bytes=256 * MIB)
    for nr in (64, 4096):
        add("time", f"mlock {best} {ours}", nr=nr, bytes=64 * MIB, rounds=few)

    rounds = ROUNDS if full else 2
    for size in (16, 64, 256, 1024) + ((4096, 8192) if full else ()):
        add("hold", "mlock lock", bytes=size * MIB, rounds=rounds)
    for nr in (16, 256, 4096):
        add("hold", "mlock lock", bytes=64 * MIB, nr=nr, rounds=rounds)
    add("hold", f"onfault lock-onfault map-populate {best} write-held lock*{cpus} yield*1 "
        f"yield*{cpus}", bytes=256 * MIB, rounds=rounds)
    for probe in ("mmap", "thread", "cmdline"):
        add("stall", f"mlock {best} {ours} yield*1", probe=probe, rounds=FEW)
        add("stall", "none onfault map-populate write-held", probe=probe,
            rounds=FEW if full else 1)
    for probe in ("fault", "maps"):
        add("stall", f"none mlock onfault map-populate {best} write-held {ours} yield*1",
            probe=probe, rounds=FEW if full else 1)
    for probe in ("call", "death"):
        add("kill", f"mlock onfault map-populate {best} write-held {ours} yield*1", probe=probe,
            options=("--delay", "100000"), rounds=few)
    add("wrong", f"mlock onfault lock-onfault {best} write-held {ours} yield*1", nr=64,
        bytes=(32 if full else 4) * MIB, rounds=few, options=("--calls", "150" if full else "60"))
    # Two groups may ask for the same cell.
    return list(dict.fromkeys(cells))


def schedule(cells, rounds=None, seed=1):
    """All runs in their order: round by round, each round in an order of its own. Those that are
    compared with each other follow each other, too, so that they meet the same moods of the
    machine. Cells with fewer rounds have them all over."""
    order = random.Random(seed)
    most = max(cell.rounds for cell in cells)
    if rounds:
        most = min(most, rounds)
    for number in range(most):
        groups = {}
        for cell in cells:
            if number * cell.rounds % most < cell.rounds:
                groups.setdefault(cell.reference(), []).append(cell)
        compared = list(groups.values())
        order.shuffle(compared)
        for now in compared:
            order.shuffle(now)
            yield from now


def measure_of(result):
    """Which measurement the line of a program belongs to."""
    if result["program"] == "lock":
        return "hold" if "write_ns" in result else "time"
    return result["program"]


def cell_of(result):
    """The cell that a result belongs to."""
    return Cell(measure_of(result), *(result[name] for name in
                                      ("contender", "workers", "load", "bytes", "nr")),
                probe=result.get("probe", ""))


def group(results):
    """Results by cell, in the order in which the cells were planned or met."""
    groups = {}
    for result in results:
        if "skipped" not in result:
            groups.setdefault(cell_of(result), []).append(result)
    return groups


def value(runs, name):
    """The number `name` of each run. Counts of calls belong together."""
    if name.endswith("_per_1000"):
        calls = sum(run["calls"] for run in runs)
        return [1000 * sum(run[name.removesuffix("_per_1000")] for run in runs) / calls]
    return [run[name] for run in runs]


def summarise(results, cells=()):
    """The rows of the summary, a dictionary of FIELDS each."""
    groups, rows = group(results), []
    order = {cell: number for number, cell in enumerate(cells)}
    for cell in sorted(groups, key=lambda c: order.get(c, len(order))):
        runs, reference = groups[cell], groups.get(cell.reference())
        for name in VALUES[cell.measure]:
            numbers = value(runs, name)
            median, ratio = statistics.median(numbers), ""
            if reference and not name.endswith("_per_1000") and median:
                ratio = round(statistics.median(value(reference, name)) / median, 3)
            rows.append(dict(zip(FIELDS, (
                cell.measure, cell.load, cell.bytes, cell.nr, cell.probe, cell.contender,
                cell.workers, name, round(median, 1), round(min(numbers), 1),
                round(max(numbers), 1), len(runs), ratio))))
    return rows


def write_csv(path, rows, fields=FIELDS):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_runs(path, results):
    """All runs, with their numbers as JSON."""
    rows = []
    for result in results:
        if "skipped" in result:
            continue
        row = {name: getattr(cell_of(result), name) for name in FIELDS[:7]}
        numbers = {k: v for k, v in result.items() if k not in row}
        rows.append({**row, "numbers": json.dumps(numbers)})
    write_csv(path, rows, (*FIELDS[:7], "numbers"))


def read_runs(path):
    """What write_runs() has written: the results."""
    results = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            numbers = json.loads(row.pop("numbers"))
            for name in ("bytes", "nr", "workers"):
                row[name] = int(row[name])
            if not row["probe"]:
                del row["probe"]
            del row["measure"]
            results.append({**row, **numbers})
    return results


def read_csv(path):
    """The rows of a summary, with numbers where there were numbers."""
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            for name in ("bytes", "nr", "workers", "runs"):
                row[name] = int(row[name])
            for name in ("median", "min", "max"):
                row[name] = float(row[name])
            row["ratio"] = float(row["ratio"]) if row["ratio"] else ""
            rows.append(row)
    return rows


def find(rows, value_name="ns", **fields):
    """The one row with these fields, or None."""
    found = [row for row in rows if row["value"] == value_name
             and all(row[name] == wanted for name, wanted in fields.items())]
    return found[0] if len(found) == 1 else None


class Table:
    """Columns that are as wide as they have to be; the first ones to the left."""

    def __init__(self, *head, left=1):
        self.rows, self.left = [head], left

    def add(self, *row):
        self.rows.append(tuple(str(word) for word in row))

    def text(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.rows[0]))]
        lines = []
        for row in self.rows:
            words = [word.ljust(width) if i < self.left else word.rjust(width)
                     for i, (word, width) in enumerate(zip(row, widths))]
            lines.append("  ".join(words).rstrip())
        return "\n".join(lines) + "\n"

    def markdown(self):
        rule = ["---"] * self.left + ["--:"] * (len(self.rows[0]) - self.left)
        rows = [self.rows[0], rule, *self.rows[1:]]
        return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def spread(row):
    """How far the runs are apart, of their median."""
    if not row["median"] or row["runs"] < 2:
        return ""
    return f"{100 * (row['max'] - row['min']) / row['median']:.0f} %"


def ratio(row):
    return f"{row['ratio']:.2f}" if row["ratio"] != "" else ""


def load_name(row):
    name = f"{size_name(row['bytes'])} {LOADS[row['load']]}"
    if row["load"].startswith("ranges"):
        return f"{row['nr']} ranges of {size_name(row['bytes'] // row['nr'] // 2)}, " \
               f"{LOADS[row['load']].split(', ', 1)[1]}"
    return f"{name}, {row['nr']} VMAs" if row["nr"] > 1 else name


def tables(rows):
    """Title and table of each kind of measurement."""
    yield from time_tables(rows)
    hold = Table("memory", "how", "write lock", "longest", "read lock", "longest", "spread",
                 "ratio", left=2)
    for row in (r for r in rows if r["measure"] == "hold" and r["value"] == "write_ns"):
        others = [find(rows, name, **{f: row[f] for f in FIELDS[:7]})
                  for name in VALUES["hold"]]
        hold.add(load_name(row), contender_name(row["contender"], row["workers"]),
                 *(duration(other["median"]) for other in others), spread(others[2]),
                 ratio(others[2]))
    yield ("Time that the calling thread holds the mmap lock (medians; spread and ratio: of the "
           "read lock)"), hold

    stall = Table("request", "while this locks 1 GiB", "p50", "p99", "max", "spread", "ratio",
                  "the call", "runs", left=2)
    for row in (r for r in rows if r["measure"] == "stall" and r["value"] == "max_ns"):
        same = {f: row[f] for f in FIELDS[:7]}
        stall.rows[0] = (*stall.rows[0][:1], f"while this locks {size_name(row['bytes'])}",
                         *stall.rows[0][2:])
        stall.add(PROBES[row["probe"]], contender_name(row["contender"], row["workers"]),
                  duration(find(rows, "p50_ns", **same)["median"]),
                  duration(find(rows, "p99_ns", **same)["median"]), duration(row["median"]),
                  spread(row), ratio(row), duration(find(rows, "ns", **same)["median"]),
                  row["runs"])
    yield ("How long others wait (a request every 2 to 50 ms; medians; spread and ratio: of the "
           "longest wait of a run)"), stall

    kill = Table("", "how", "median", "longest", "spread", "ratio", left=2)
    for row in (r for r in rows if r["measure"] == "kill"):
        kill.add(PROBES[row["probe"]], contender_name(row["contender"], row["workers"]),
                 duration(row["median"]), duration(row["max"]), spread(row), ratio(row))
    yield "SIGKILL in the middle of a call", kill

    wrong = Table("how", "wrong successes per 1000", "failed calls per 1000", "runs")
    for row in (r for r in rows if r["value"] == "wrong_per_1000"):
        failed = find(rows, "failed_per_1000", **{f: row[f] for f in FIELDS[:7]})
        wrong.add(contender_name(row["contender"], row["workers"]), f"{row['median']:.1f}",
                  f"{failed['median']:.1f}", row["runs"])
    yield "A page is replaced during the call, mostly while VMAs are marked", wrong


def time_tables(rows):
    """One table; the rows of a load follow each other."""
    table = Table("memory", "how", "time", "spread", "ratio", "runs", left=2)
    last, order = None, {}
    rows = [row for row in rows if row["measure"] == "time"]
    for row in rows:
        order.setdefault(load_name(row), len(order))
    for row in sorted(rows, key=lambda r: order[load_name(r)]):
        name = load_name(row)
        table.add("" if name == last else name, contender_name(row["contender"], row["workers"]),
                  duration(row["median"]), spread(row), ratio(row), row["runs"])
        last = name
    yield "Time to lock (median; ratio: mlock(2)'s time to this one's, above 1 is faster)", table


# README's table: each row a load, each column a contender.
HEADLINE_LOADS = (
    {"load": "anon", "bytes": GIB, "nr": 1},
    {"load": "thp"},
    {"load": "shared"},
    {"load": "file-warm"},
    {"load": "file-cold"},
    {"load": "anon", "bytes": 64 * MIB, "nr": 4096},
    {"load": "resident"},
    {"load": "locked"},
)
HEADLINE_CONTENDERS = (("madvise", 2), ("lock", 1), ("lock", 2), ("yield", 2))
HEADLINE_WAITS = (("mlock", 1), ("lock", 1), ("lock", 2), ("yield", 1), ("yield", 2))
HEADLINE_STALLS = ("mmap", "thread", "cmdline")
BEGIN, END = "<!-- From bench/results/summary.csv, by tools/bench --readme -->\n", "<!-- end -->\n"


def headline(rows):
    """The tables of the README, and what they are of."""
    table = Table("to lock", "mlock(2)", *(contender_name(*c) for c in HEADLINE_CONTENDERS))
    timed, waited = [], []
    for load in HEADLINE_LOADS:
        cells = [find(rows, measure="time", contender=contender, workers=workers, **load)
                 for contender, workers in (("mlock", 1), *HEADLINE_CONTENDERS)]
        if cells[0]:
            timed += cells
            table.add(load_name(cells[0]), duration(cells[0]["median"]),
                      *(times(row) for row in cells[1:]))
    ranges = Table("to lock", "1000 × mlock(2)", "1000 × LOCK", "LOCKV")
    for load in RANGES:
        cells = [find(rows, measure="time", contender=contender, load=load)
                 for contender in ("mlock", "lock", "lockv")]
        if cells[0]:
            timed += cells
            ranges.add(load_name(cells[0]), duration(cells[0]["median"]),
                       *(times(row) for row in cells[1:]))
    stalls = Table("longest wait", *(contender_name(*c) for c in HEADLINE_WAITS))
    for probe in HEADLINE_STALLS:
        cells = [find(rows, "max_ns", measure="stall", probe=probe, contender=contender,
                      workers=workers)
                 for contender, workers in HEADLINE_WAITS]
        if cells[0]:
            waited += cells
            stalls.add(PROBES[probe], *(duration(row["median"]) if row else "" for row in cells))
    said = f"Medians of {how_many_runs(timed)} runs"
    if waited:
        size = size_name(waited[0]["bytes"])
        said += f"; the longest wait of a run in which {size} is locked, of {how_many_runs(waited)}"
    return "\n".join([f"{said}.\n",
                      *(t.markdown() for t in (table, ranges, stalls) if len(t.rows) > 1)])


def how_many_runs(rows):
    """In words."""
    runs = sorted({row["runs"] for row in rows if row})
    return f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else f"{runs[0]}" if runs else "no"


def times(row):
    """A ratio in the README's words."""
    return f"{row['ratio']:.2f} ×" if row and row["ratio"] != "" else ""


def with_headline(text, rows):
    """The README with these tables in their place."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError("README.md has no place for the tables of the benchmark")
    return f"{before}{BEGIN}\n{headline(rows)}\n{END}{after}"


# A share of the instructions; more than this is a regression.
INSN_LIMIT = 0.03


def regressions(before, now):
    """What takes more instructions than it did, in words."""
    known = {row["what"]: int(row["mlock_rs"]) for row in before}
    for row in now:
        was = known.get(row["what"])
        if was is None:
            yield f"{row['what']}: not in the table; UPDATE=1 puts it there"
        elif row["mlock_rs"] > was * (1 + INSN_LIMIT):
            yield (f"{row['what']}: {row['mlock_rs']} instructions, "
                   f"{100 * (row['mlock_rs'] / was - 1):.1f} % more than {was}")
