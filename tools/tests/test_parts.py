#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/parts.py count what went wrong beside the tests: command, sum, kernel log?"""

import pathlib
import shlex
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import parts  # noqa: E402
import tap  # noqa: E402

GOOD = "TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP no disk\n"
SUM = "1 passed, 0 failed, 1 skipped\n"


class Parts(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.part = parts.Part("lint", pathlib.Path(home.name) / "lint", mock.Mock())

    def run_text(self, text, status=0):
        """The sums after a command that prints this and ends so."""
        script = f"printf %s {shlex.quote(text)}; exit {status}"
        self.part.close(self.part.run(["sh", "-c", script], "lint.tap", group="lint"))
        return tap.counts(self.part.tests)

    def reasons(self):
        return " ".join(test.reason for test in self.part.tests if test.status == tap.FAIL)

    def test_success(self):
        self.assertEqual(self.run_text(GOOD + SUM), [1, 0, 1])
        self.assertIn("    ok 1 a\n", (self.part.directory / "lint.tap").read_text())
        self.assertTrue((self.part.directory / "junit.xml").exists())

    def test_a_test_that_fails_is_counted_once(self):
        self.assertEqual(self.run_text(GOOD.replace("ok 1", "not ok 1")
                                       + "0 passed, 1 failed, 1 skipped\n", 1), [0, 1, 1])

    def test_a_status_that_no_test_explains(self):
        self.assertEqual(self.run_text(GOOD + SUM, 1), [1, 1, 1])
        self.assertIn("exit status 1", self.reasons())

    def test_a_vm_that_failed_fails_beside_a_test_that_failed(self):
        self.assertEqual(self.run_text("1..1\nnot ok 1 a\n0 passed, 1 failed, 0 skipped\n", 125),
                         [0, 2, 0])

    def test_no_sum(self):
        self.assertEqual(self.run_text(GOOD), [1, 2, 1])
        self.assertIn("no sum", self.reasons())

    def test_another_sum_than_was_seen(self):
        self.assertEqual(self.run_text(GOOD + SUM.replace("1 passed", "2 passed")), [1, 1, 1])
        self.assertIn("2 passed", self.reasons())

    def test_silence(self):
        self.assertEqual(self.run_text("")[0::2], [0, 0])
        self.assertGreater(tap.counts(self.part.tests)[1], 0)

    def test_a_last_line_without_an_end_is_read(self):
        self.assertEqual(self.run_text(GOOD + SUM.rstrip()), [1, 0, 1])

    def test_trouble_in_the_kernel_log(self):
        parts.add_kernel_log(self.part, ["fine", "fine too", "BUG: KASAN: x", "fine"])
        test = self.part.tests[0]
        self.assertEqual(test.status, tap.FAIL)
        self.assertIn("> BUG: KASAN: x", test.lines)
        self.assertTrue(test.where.endswith("kernel.log:3"))

    def test_a_clean_kernel_log(self):
        parts.add_kernel_log(self.part, ["fine"])
        self.assertEqual(self.part.tests, [])

    def test_kunit_suites_that_did_not_run(self):
        suites = parts.kunit_suites()
        self.assertIn("mlock_rs_range", suites)
        parts.add_kunit(self.part, [], True)
        self.assertEqual([test.group for test in self.part.tests],
                         [f"kunit/{suite}" for suite in suites])
        self.assertEqual(tap.counts(self.part.tests), [0, len(suites), 0])

    def test_kunit_suites_that_ran(self):
        lines = []
        for number, suite in enumerate(parts.kunit_suites(), 1):
            lines += [f"    # Subtest: {suite}", "    1..1", "    ok 1 a", f"ok {number} {suite}"]
        parts.add_kunit(self.part, lines, True)
        self.assertEqual(tap.counts(self.part.tests), [len(parts.kunit_suites()), 0, 0])


if __name__ == "__main__":
    unittest.main()
