#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/bench.py plan, count and print what it should; do README's numbers come from a run?"""

import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import bench  # noqa: E402
from common import CLONE  # noqa: E402


def result(contender, ns, workers=1, **more):
    return {"program": "lock", "contender": contender, "workers": workers, "load": "anon",
            "bytes": bench.GIB, "nr": 1, "ns": ns, **more}


class Summary(unittest.TestCase):
    def test_medians_and_ratios(self):
        results = [result("mlock", ns) for ns in (300, 100, 200)]
        results += [result("lock", ns, 2) for ns in (90, 110, 100)]
        rows = bench.summarise(results)
        self.assertEqual([(r["contender"], r["median"], r["min"], r["max"], r["runs"], r["ratio"])
                          for r in rows],
                         [("mlock", 200, 100, 300, 3, 1.0), ("lock", 100, 90, 110, 3, 2.0)])

    def test_only_the_same_memory_is_compared(self):
        rows = bench.summarise([result("mlock", 100), result("lock", 100) | {"nr": 64}])
        self.assertEqual([r["ratio"] for r in rows], [1.0, ""])

    def test_what_was_skipped_does_not_count(self):
        self.assertEqual(bench.summarise([result("yield", 0, skipped="cannot")]), [])

    def test_a_trace_is_another_measurement(self):
        traced = result("mlock", 100, write_ns=1, write_longest_ns=1, read_ns=2, read_longest_ns=2)
        measures = [bench.measure_of(r) for r in (traced, result("mlock", 100))]
        self.assertEqual(measures, ["hold", "time"])

    def test_wrong_successes_of_all_rounds(self):
        runs = [{"program": "wrong", "contender": "mlock", "workers": 1, "load": "anon",
                 "bytes": 1, "nr": 64, "ns": 1, "calls": 100, "wrong": wrong, "failed": 0}
                for wrong in (1, 4)]
        row = bench.find(bench.summarise(runs), "wrong_per_1000", contender="mlock")
        self.assertEqual((row["median"], row["ratio"]), (25, ""))

    def test_csv_and_back(self):
        rows = bench.summarise([result("mlock", 100), result("lock", 50, 2)])
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "summary.csv"
            bench.write_csv(path, rows)
            self.assertEqual(bench.read_csv(path), rows)

    def test_runs_and_back(self):
        results = [result("mlock", 100), {**result("lock", 50, 2), "program": "stall",
                                          "probe": "mmap", "buckets": [1, 2]}]
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "runs.csv"
            bench.write_runs(path, results)
            self.assertEqual(bench.read_runs(path), results)


class Plan(unittest.TestCase):
    def test_each_cell_once(self):
        for full in (False, True):
            cells = bench.plan(full)
            self.assertEqual(len(cells), len(set(cells)))

    def test_each_cell_has_its_reference(self):
        for full in (False, True):
            cells = bench.plan(full)
            self.assertEqual([c for c in cells if c.reference() not in cells], [])

    def test_runs_take_turns(self):
        cells = list(bench.each("time", "mlock lock*1 lock*2"))
        runs = list(bench.schedule(cells, 2))
        self.assertEqual(len(runs), 6)
        self.assertEqual(set(runs[:3]), set(cells))
        self.assertEqual(set(runs[3:]), set(cells))

    def test_what_is_compared_follows_each_other(self):
        cells = [*bench.each("time", "mlock lock"), *bench.each("time", "mlock lock", load="thp"),
                 *bench.each("time", "mlock lock", load="shared")]
        runs = list(bench.schedule(cells[::2] + cells[1::2]))
        for one, other in zip(runs[::2], runs[1::2]):
            self.assertEqual(one.reference(), other.reference())
        self.assertEqual({run.contender for run in runs[::2]}, {"mlock", "lock"})

    def test_cells_with_fewer_rounds(self):
        cells = [*bench.each("time", "mlock"), *bench.each("hold", "mlock", rounds=3)]
        runs = list(bench.schedule(cells))
        self.assertEqual([runs.count(cell) for cell in cells], [bench.ROUNDS, 3])

    def test_a_result_finds_its_cell(self):
        for cell in bench.plan():
            line = cell.arguments()
            said = {"program": line[0], "contender": cell.contender, "workers": cell.workers,
                    "load": cell.load, "bytes": cell.bytes, "nr": cell.nr}
            if cell.probe:
                said["probe"] = cell.probe
            if "--trace" in line:
                said["write_ns"] = 1
            self.assertEqual(bench.cell_of(said), cell)


class Instructions(unittest.TestCase):
    BEFORE = [{"what": "a page", "mlock": "1000", "mlock_rs": "1000"}]

    def worse(self, number, what="a page"):
        now = [{"what": what, "mlock": 1000, "mlock_rs": number}]
        return list(bench.regressions(self.BEFORE, now))

    def test_up_to_3_percent_are_none(self):
        self.assertEqual([self.worse(n) for n in (900, 1000, 1030)], [[], [], []])

    def test_more_is_a_regression(self):
        self.assertEqual(self.worse(1031), ["a page: 1031 instructions, 3.1 % more than 1000"])

    def test_what_is_new_has_to_be_put_into_the_table(self):
        self.assertEqual(len(self.worse(1000, "a VMA")), 1)


class Words(unittest.TestCase):
    def test_durations(self):
        self.assertEqual([bench.duration(ns) for ns in (5, 1500, 12345678, 234e6, 2e9)],
                         ["5 ns", "1.50 us", "12.3 ms", "234 ms", "2.00 s"])

    def test_table(self):
        table = bench.Table("how", "time")
        table.add("mlock(2)", 10)
        self.assertEqual(table.text(), "how       time\nmlock(2)    10\n")
        self.assertEqual(table.markdown(), "| how | time |\n| --- | --: |\n| mlock(2) | 10 |\n")


@unittest.skipUnless((CLONE / "bench/results/summary.csv").exists(), "there are no results")
class Readme(unittest.TestCase):
    """The numbers that people quote are those of the run whose report is here."""

    def setUp(self):
        self.readme = (CLONE / "README.md").read_text()
        self.rows = bench.read_csv(CLONE / "bench/results/summary.csv")

    def test_tables_are_those_of_the_run(self):
        self.assertEqual(self.readme, bench.with_headline(self.readme, self.rows))

    def test_tables_have_numbers(self):
        self.assertGreater(len(re.findall(r"[0-9] ×", bench.headline(self.rows))), 20)

    def test_another_ratio_is_noticed(self):
        wrong = re.sub(r"([0-9])\.([0-9]{2}) ×", r"9\1.\2 ×", self.readme, count=1)
        self.assertNotEqual(wrong, bench.with_headline(wrong, self.rows))

    def test_medians_are_those_of_all_runs(self):
        runs = bench.read_runs(CLONE / "bench/results/runs.csv")

        def in_order(rows):
            return sorted(rows, key=str)
        self.assertEqual(in_order(bench.summarise(runs)), in_order(self.rows))

    def test_plots_are_there(self):
        plots = re.findall(r"bench/results/([a-z]+)\.svg", self.readme)
        self.assertEqual(len(plots), 2)
        for name in plots:
            self.assertTrue((CLONE / f"bench/results/{name}.svg").exists(), name)
