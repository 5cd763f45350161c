#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Is what lib/junit.py writes XML, whatever a test printed, and does it add up?"""

import pathlib
import sys
import tempfile
import unittest
from xml.etree import ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import junit  # noqa: E402
from tap import FAIL, SKIP, Test  # noqa: E402

TESTS = [
    Test("lock_test", "lock.a", seconds=1.5, lines=["# SEED=1"]),
    Test("lock_test", "lock.b", FAIL, 0.25, "exit status 1", ["<a> & b", "\x1b[31m\0\ufffe"]),
    Test("hole_test", "hole.c", SKIP, reason="no disk"),
    Test("hole_test", "9 of 9 tests", FAIL, reason="did not run", count=9),
]


class Junit(unittest.TestCase):
    def setUp(self):
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "junit.xml"
            junit.write(path, "base", TESTS)
            self.root = ElementTree.parse(path).getroot()

    def test_a_suite_for_each_group(self):
        suites = self.root.findall("testsuite")
        self.assertEqual([suite.get("name") for suite in suites],
                         ["base.lock_test", "base.hole_test"])
        self.assertEqual([len(suite.findall("testcase")) for suite in suites], [2, 2])

    def test_sums(self):
        self.assertEqual((self.root.get("tests"), self.root.get("failures"),
                          self.root.get("skipped"), self.root.get("time")),
                         ("4", "2", "1", "1.750"))

    def test_failures_say_why(self):
        failure = self.root.find(".//testcase[@name='lock.b']/failure")
        self.assertEqual(failure.get("message"), "exit status 1")
        self.assertEqual(failure.text, "<a> & b\n\N{REPLACEMENT CHARACTER}[31m"
                         + 2 * "\N{REPLACEMENT CHARACTER}")
        self.assertEqual(self.root.find(".//testcase[@name='hole.c']/skipped").get("message"),
                         "no disk")

    def test_what_a_passing_test_wrote_is_kept(self):
        self.assertEqual(self.root.find(".//testcase[@name='lock.a']/system-out").text, "# SEED=1")


if __name__ == "__main__":
    unittest.main()
