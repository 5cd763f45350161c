#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/screen.py show what a person needs: failures twice, the rest once, the sum last?"""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import screen  # noqa: E402
from parts import Part  # noqa: E402
from tap import FAIL, SKIP, Test  # noqa: E402

TESTS = [
    Test("lock_test", "lock.a", seconds=1.5, lines=["# a.c:1:a:SEED=1", "# a.c:2:a:7 calls"]),
    Test("lock_test", "lock.b", FAIL, 0.25, lines=["# a.c:9:b:SEED=2"], where="x.tap:5"),
    Test("hole_test", "hole.c", SKIP, reason="no disk"),
    Test("hole_test", "9 of 9 tests", FAIL, reason="did not run", count=9),
]


class ScreenTest(unittest.TestCase):
    def shown(self, measured=(), **options):
        """The lines that a run prints."""
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            it = screen.Screen(**options)
            part = Part("base", pathlib.Path(home.name) / "base", it)
            for test in TESTS:
                part.add(test)
            it.report([part], measured)
        return out.getvalue().splitlines()

    def test_a_line_for_each_test(self):
        lines = self.shown()
        self.assertEqual(lines[0], "ok       1.50 s  lock_test:lock.a: 7 calls")
        self.assertEqual(lines[1], "FAIL     0.25 s  lock_test:lock.b")
        self.assertIn("skip     0.00 s  hole_test:hole.c: no disk", lines)

    def test_the_last_line_is_the_sum(self):
        self.assertEqual(self.shown()[-1], "1 passed, 10 failed, 1 skipped")

    def test_what_was_measured_is_there_but_not_last(self):
        lines = self.shown(["coverage: 98.7 %"])
        self.assertIn("coverage: 98.7 %", lines)
        self.assertEqual(lines[-1], "1 passed, 10 failed, 1 skipped")

    def test_only_failing_tests_show_what_they_wrote_now_and_in_the_end(self):
        text = "\n".join(self.shown())
        self.assertNotIn("SEED=1", text)
        self.assertEqual(text.count("SEED=2"), 2)
        self.assertEqual(text.count("see x.tap:5"), 1)

    def test_verbose_shows_all(self):
        self.assertIn("SEED=1", "\n".join(self.shown(verbose=True)))

    def test_sums_for_each_program(self):
        rows = {line.split()[1]: line.split()[2:] for line in self.shown()
                if line.startswith("base ") and len(line.split()) == 6}
        self.assertEqual(rows, {"lock_test": ["1", "1", "0", "1.8"],
                                "hole_test": ["0", "9", "1", "0.0"]})

    def test_quiet_shows_nothing(self):
        self.assertEqual(self.shown(quiet=True), [])

    def test_durations(self):
        self.assertEqual([screen.duration(n) for n in (0.4, 59.9, 60, 119.7, 5400)],
                         ["0 s", "59 s", "1:00 min", "1:59 min", "90:00 min"])


if __name__ == "__main__":
    unittest.main()
