# SPDX-License-Identifier: GPL-2.0
"""Draws the plots of the benchmark with matplotlib; tools/plots runs it where that is."""

import os
import pathlib
import sys

import bench

# Before matplotlib looks for a home that may be read-only.
os.environ.setdefault("MPLCONFIGDIR", "/tmp/mlock_rs-matplotlib")
# pylint: disable=wrong-import-position
import matplotlib  # noqa: E402

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

# One colour for each contender in all plots; blue and green are mlock_rs (Okabe and Ito's palette).
COLOURS = {"mlock": "#d55e00", "onfault": "#56b4e9", "madvise": "#e69f00",
           "map-populate": "#cc79a7", "write-held": "#999999", "lock": "#0072b2",
           "yield": "#009e73", "lock-onfault": "#f0e442", "none": "#bbbbbb"}
STYLE = {"svg.hashsalt": "mlock_rs", "svg.fonttype": "none", "font.size": 10,
         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.3, "legend.frameon": False}


class Results:
    """What tools/bench has written."""

    def __init__(self, directory):
        self.rows = bench.read_csv(directory / "summary.csv")
        self.runs = bench.group(bench.read_runs(directory / "runs.csv"))
        self.emulated = bench.EMULATED in (directory / "report.md").read_text()

    def select(self, measure, value="ns", **fields):
        return [row for row in self.rows if row["measure"] == measure and row["value"] == value
                and all(row[name] == wanted for name, wanted in fields.items())]


def duration_axis(axis):
    axis.set_major_formatter(FuncFormatter(lambda ns, _: short(ns)))
    axis.set_minor_formatter(NullFormatter())


def short(ns):
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")):
        if ns >= unit:
            return f"{ns / unit:g} {name}"
    return "0"


def size_axis(axis, sizes):
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [bench.size_name(size) for size in sizes])
    axis.minorticks_off()


def line_style(contender, workers):
    """Alone is dashed where several workers are drawn, too."""
    return {"color": COLOURS.get(contender, "black"),
            "linestyle": "--" if contender in ("lock", "yield") and workers == 1 else "-"}


def save(figure, directory, name, results):
    if results.emulated:
        figure.text(0.99, 0.005, "in a VM under emulation: compare the curves, not the times with "
                    "your machine's", ha="right", va="bottom", fontsize=8, color="#777777")
    figure.tight_layout(rect=(0, 0.16 if figure.legends else 0.03, 1, 1))
    figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def bucket_limit(i):
    """The upper end of a bucket of bench/stall.c, in ns."""
    return 1000 * 2 ** ((i + 1) / 2)


def stall(results):
    """The share of requests that waited longer than so long."""
    kinds = [kind for kind in ("mmap", "thread", "cmdline", "maps", "fault")
             if results.select("stall", "max_ns", probe=kind)]
    if not kinds:
        return None
    columns = min(3, len(kinds))
    # One more for the legend.
    lines = len(kinds) // columns + 1
    figure, axes = plt.subplots(lines, columns, figsize=(4.2 * columns, 3.4 * lines),
                                sharex=True, sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds):
        for row in results.select("stall", "max_ns", probe=kind):
            key = (row["contender"], row["workers"])
            cell = bench.Cell("stall", *key, row["load"], row["bytes"], row["nr"], kind)
            buckets = [run["buckets"] for run in results.runs[cell]]
            longest = max(map(len, buckets))
            counts = [sum(b[i] for b in buckets if i < len(b)) for i in range(longest)]
            # Each bucket but the last one ends with a share that waited longer; the curve falls
            # to less than one request at the longest wait.
            total, left = sum(counts), sum(counts)
            x, y = [1000], [1]
            for i, count in enumerate(counts):
                left -= count
                x.append(min(bucket_limit(i), row["max"]))
                y.append(max(left, 0.5) / total)
            axis.plot(x, y, label=bench.contender_name(*key), **line_style(*key))
        axis.set(xscale="log", yscale="log", title=bench.PROBES[kind],
                 xlabel="waited longer than")
        axis.tick_params(labelbottom=True)
        duration_axis(axis.xaxis)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axis.minorticks_off()
    for line in axes:
        line[0].set_ylabel("of the requests")
    for axis in axes.flat[len(kinds):]:
        axis.set_axis_off()
    axes.flat[len(kinds)].legend(*axes.flat[0].get_legend_handles_labels(), loc="upper left",
                                 fontsize=9)
    size = results.select("stall", "max_ns")[0]["bytes"]
    figure.suptitle(f"How long others wait while {bench.size_name(size)} is locked")
    return figure


def throughput(results):
    """GiB/s over the number of threads that populate."""
    size = bench.WORKERS_BYTES
    figure, axis = plt.subplots(figsize=(6.4, 4))
    rows = results.select("time", load="anon", bytes=size, nr=1)
    drawn = False
    for contender, name in (("lock", "mlock_rs LOCK"),
                            ("madvise", "MADV_POPULATE, then mlock(2)")):
        line = sorted((r for r in rows if r["contender"] == contender and r["workers"]),
                      key=lambda r: r["workers"])
        if not line:
            continue
        drawn = True
        rate = [size / r["median"] * 1e9 / bench.GIB for r in line]
        low = [size / r["max"] * 1e9 / bench.GIB for r in line]
        high = [size / r["min"] * 1e9 / bench.GIB for r in line]
        error = [[m - a for m, a in zip(rate, low)], [b - m for b, m in zip(high, rate)]]
        axis.errorbar([r["workers"] for r in line], rate, yerr=error, marker="o", capsize=3,
                      label=name, color=COLOURS[contender])
        axis.set_xticks(sorted({r["workers"] for r in rows if r["workers"]}))
    for row in rows:
        if row["contender"] == "mlock":
            axis.axhline(size / row["median"] * 1e9 / bench.GIB, color=COLOURS["mlock"],
                         label="mlock(2)")
    axis.set(xlabel="threads that populate", ylabel="GiB/s", ylim=(0, None),
             title=f"Locking {bench.size_name(size)} of new memory")
    axis.legend()
    return figure if drawn else None


def lines_over_size(axis, rows, sizes):
    for key in dict.fromkeys((r["contender"], r["workers"]) for r in rows):
        line = sorted(((r["bytes"], r) for r in rows if (r["contender"], r["workers"]) == key),
                      key=lambda pair: pair[0])
        if len(line) > 1:
            axis.plot([at for at, _ in line], [r["median"] for _, r in line], marker="o",
                      markersize=4, label=bench.contender_name(*key), **line_style(*key))
    axis.set_yscale("log")
    duration_axis(axis.yaxis)
    size_axis(axis, sizes)


def size(results):
    """Time over size."""
    rows = [r for r in results.select("time", load="anon", nr=1)
            if r["contender"] in ("mlock", "madvise", "lock", "yield") and r["workers"]]
    sizes = sorted({r["bytes"] for r in rows})
    if len(sizes) < 2:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 4))
    lines_over_size(axis, rows, sizes)
    axis.set(xlabel="new memory, 4 KiB pages", ylabel="time to lock it",
             title="Time over size")
    axis.legend(fontsize=8)
    return figure


def hold(results):
    """How long the mmap lock is held, over size and over the number of VMAs."""
    sizes = sorted({r["bytes"] for r in results.select("hold", "write_ns", nr=1)})
    if len(sizes) < 2:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4))
    for value, style, name in (("read_ns", "-", "read lock"), ("write_ns", ":", "write lock")):
        for contender in ("mlock", "lock"):
            label = f"{bench.contender_name(contender, 1)}, {name}"
            look = {"color": COLOURS[contender], "linestyle": style, "marker": "o",
                    "markersize": 4, "label": label}
            one = sorted(results.select("hold", value, nr=1, contender=contender,
                                        workers=1),
                         key=lambda r: r["bytes"])
            axes[0].plot([r["bytes"] for r in one], [r["median"] for r in one], **look)
            many = sorted(results.select("hold", value, bytes=64 * bench.MIB, workers=1,
                                         contender=contender), key=lambda r: r["nr"])
            axes[1].plot([r["nr"] for r in many], [r["median"] for r in many], **look)
    size_axis(axes[0], sizes)
    axes[0].set(xlabel="memory in one VMA", ylabel="held for")
    axes[1].set(xscale="log", xlabel="VMAs in 64 MiB")
    numbers = sorted({r["nr"] for r in results.select("hold", "write_ns",
                                                      bytes=64 * bench.MIB)})
    axes[1].set_xticks(numbers, [str(number) for number in numbers])
    for axis in axes:
        axis.set_yscale("log")
        duration_axis(axis.yaxis)
        axis.minorticks_off()
    axes[1].legend(fontsize=8)
    figure.suptitle("How long the mmap lock is held")
    return figure


def wrong(results):
    """Wrong successes as bars."""
    rows = results.select("wrong", "wrong_per_1000")
    if not rows:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 0.5 * len(rows) + 1.6))
    names = [bench.contender_name(r["contender"], r["workers"]) for r in rows]
    bars = axis.barh(names, [r["median"] for r in rows],
                     color=[COLOURS[r["contender"]] for r in rows])
    axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="of 1000 calls", xlim=(0, max(1, *(1.15 * r["median"] for r in rows))))
    figure.suptitle("Success, although a page was replaced by one that is not locked", fontsize=11)
    return figure


def main():
    directory = pathlib.Path(sys.argv[1])
    results = Results(directory)
    drawn = 0
    with plt.rc_context(STYLE):
        for name in bench.PLOTS:
            figure = globals()[name](results)
            (directory / f"{name}.svg").unlink(missing_ok=True)
            if figure:
                save(figure, directory, name, results)
                drawn += 1
    print(f"plots: {drawn} plots in {os.path.relpath(directory, bench.CLONE)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
