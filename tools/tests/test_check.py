#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which kernels does tools/check run the tests on, and what if the source of one cannot be had?"""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from load import load  # noqa: E402
from tap import Test  # noqa: E402

tool = load("check")


class Kernels(unittest.TestCase):
    def setUp(self):
        self.build_user = mock.MagicMock()
        self.count = mock.Mock(return_value={"lock/plan.rs": {1: 7, 2: 0}})
        self.mismatches = mock.Mock(return_value=[])

    def check(self, *arguments, there=("7.3", "7.2"), default="7.3", run=None, seconds=0,
              **environment):
        """What is run on which kernel, and what is printed."""
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.ran, self.built, self.counted = [], [], []

        def told(part, flavour, _programs, settings, covered=False, version=None):
            if covered:
                self.counted.append((version or default, flavour))
            self.ran.append((version or default, flavour, settings.get("STORM_SECONDS")))
            part.add(Test("storm_test", "storm.a"))

        def command(self, name, _command):
            self.part(name).add(Test(name, "a"))

        clock = mock.Mock(monotonic=mock.Mock(return_value=0))

        def output_of(*command, **environment):
            self.built.append((environment.get("KERNEL", default), command[2:]))
            clock.monotonic.return_value += seconds

        changes = {"RESULTS": pathlib.Path(home.name), "VERSIONS": ["7.3", "7.2"],
                   "VERSION": default, "is_there": there.__contains__, "kselftests": run or told,
                   "module": mock.Mock(), "selftests": mock.Mock(), "output_of": output_of,
                   "time": clock,
                   "build_user": self.build_user, "peek": mock.Mock(),
                   "shards": lambda flavour, number: [["a_test"]] * number}
        with contextlib.ExitStack() as stack, \
                contextlib.redirect_stdout(io.StringIO()) as said:
            for name, value in changes.items():
                stack.enter_context(mock.patch.object(tool, name, value))
            stack.enter_context(mock.patch.object(tool.Check, "command", command))
            stack.enter_context(mock.patch.object(tool.coverage, "count", self.count))
            stack.enter_context(mock.patch.object(tool.coverage, "mismatches", self.mismatches))
            stack.enter_context(mock.patch.object(
                tool.Check, "user", lambda self, built: command(self, "user", None)))
            stack.enter_context(mock.patch.object(sys, "argv", ["check", *arguments]))
            stack.enter_context(mock.patch.dict(os.environ, environment))
            for name in ("COVERAGE", "STORM_SECONDS"):
                if name not in environment:
                    os.environ.pop(name, None)
            check = tool.Check(tool.parse())
            check.run()
            self.failed = check.report()
        return said.getvalue()

    ALL = [("7.3", flavour, None) for flavour in ("base", "debug", "kcsan") for _ in range(2)]
    BRIEF = [("7.2", "base", tool.BRIEF["STORM_SECONDS"])]

    def test_one_version_alone(self):
        self.check()
        self.assertCountEqual(self.ran, self.ALL)
        self.assertEqual(self.built, [("7.3", ("base", "debug", "kcsan"))])

    def test_the_base_kernel_of_the_others_in_brief(self):
        said = self.check("--others")
        self.assertCountEqual(self.ran, self.ALL + self.BRIEF)
        self.assertIn(("7.2", ("base",)), self.built)
        self.assertEqual(said.splitlines()[-1], "11 passed, 0 failed, 0 skipped")

    def test_no_more_than_so_many_vms_at_a_time_and_none_when_one_has_failed(self):
        lock, now, most, begun = threading.Lock(), 0, 0, 0

        def run(_part, flavour, *_arguments, **_options):
            nonlocal now, most, begun
            with lock:
                now, begun = now + 1, begun + 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1
            if flavour == "base":
                raise OSError("no VM")

        with self.assertRaisesRegex(OSError, "no VM"):
            self.check("--others", run=run)
        self.assertEqual(most, tool.AT_A_TIME)
        # The two that failed, and what may have begun in their places.
        self.assertLessEqual(begun, 4)

    def test_what_is_in_user_is_built_only_for_its_tests(self):
        self.check("--kernel", "base")
        self.build_user.assert_not_called()
        self.check()
        self.build_user.assert_called_once()

    def test_what_is_asked_for_is_not_shortened(self):
        self.check("--others", STORM_SECONDS="9")
        self.assertEqual({seconds for _, _, seconds in self.ran}, {"9"})

    def test_another_version_that_cannot_be_had_is_one_line_and_skipped(self):
        said = self.check("--others", there=("7.3",))
        self.assertCountEqual(self.ran, self.ALL)
        self.assertEqual(self.built, [("7.3", ("base", "debug", "kcsan"))])
        self.assertEqual(said.count("there is no linux-source-7.2 to be had"), 1)
        self.assertEqual(said.splitlines()[-1], "10 passed, 0 failed, 1 skipped")
        self.assertFalse(self.failed)

    def test_another_version_waits_if_the_kernels_took_long(self):
        said = self.check("--others", seconds=tool.PATIENCE + 1)
        self.assertCountEqual(self.ran, self.ALL)
        self.assertEqual(self.built, [("7.3", ("base", "debug", "kcsan"))])
        self.assertEqual(said.count("took long to build"), 1)
        self.assertEqual(said.splitlines()[-1], "10 passed, 0 failed, 1 skipped")
        self.check("--others", seconds=tool.PATIENCE)
        self.assertCountEqual(self.ran, self.ALL + self.BRIEF)

    def test_the_default_cannot_be_had(self):
        said = self.check("--others", there=("7.2",), default="7.2")
        self.assertEqual(len(self.ran), 6)
        self.assertIn("there is no linux-source-7.3 to be had", said)
        self.assertEqual(said.splitlines()[-1], "9 passed, 0 failed, 1 skipped")
        self.assertEqual(self.counted, [])

    def test_lines_are_counted_on_the_debug_kernel_and_printed(self):
        said = self.check("--others")
        self.assertEqual(self.counted, 2 * [("7.3", "debug")])
        self.assertIn("coverage: 50.0 % of 2 lines", said)
        for arguments, environment in ((("--kernel", "base"), {}),
                                       (("--kernel", "debug", "storm_test"), {}),
                                       (("--kernel", "debug"), {"COVERAGE": "0"})):
            self.check(*arguments, **environment)
            self.assertEqual(self.counted, [])
        self.check("storm_test", "--kernel", "debug", COVERAGE="1")
        self.assertEqual(self.counted, [("7.3", "debug")])

    def test_a_line_that_is_not_listed_fails_if_asked_for(self):
        self.mismatches.return_value = ["lock/plan.rs:2 is not reached"]
        said = self.check()
        self.assertFalse(self.failed)
        self.assertIn("lock/plan.rs:2 is not reached", said)
        self.assertEqual(said.splitlines()[-1], "9 passed, 0 failed, 1 skipped")
        said = self.check(COVERAGE="1")
        self.assertTrue(self.failed)
        self.assertIn("lock/plan.rs:2 is not reached", said)

    def test_counters_that_cannot_be_read_fail(self):
        self.count.side_effect = ValueError("no counters")
        self.check()
        self.assertTrue(self.failed)


if __name__ == "__main__":
    unittest.main()
