#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which kernels does tools/check run which tests on, and what does it not run again?"""

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
import tap  # noqa: E402
from load import load  # noqa: E402

tool = load("check")


class Kernels(unittest.TestCase):
    def setUp(self):
        self.build_user = mock.MagicMock()
        self.count = mock.Mock(return_value={"lock/plan.rs": {1: 7, 2: 0}})
        self.mismatches = mock.Mock(return_value=[])
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.results, self.sources = pathlib.Path(home.name), "these"

    def check(self, *arguments, run=None, status=tap.OK, **environment):
        """What is run on which kernel, and what is printed."""
        self.ran, self.got, self.counted, self.commands = [], [], [], []

        def told(part, kernel, programs, settings, covered=False):
            if covered:
                self.counted.append(kernel)
            self.ran.append((kernel, settings.get("STORM_SECONDS")))
            self.programs = programs
            part.add(tap.Test("storm_test", "storm.a", status))
            part.end()

        def command(part, words, _name, group=None):
            self.commands.append(words[0])
            part.add(tap.Test(group, "a"))
            part.summed = True
            return 0

        def output_of(*command):
            self.got.append(command[2:])

        changes = {"RESULTS": self.results, "kselftests": run or told,
                   "module": mock.Mock(), "selftests": mock.Mock(), "output_of": output_of,
                   "build_user": self.build_user, "phase": contextlib.nullcontext, "phases": lambda: [], "peek": mock.Mock(),
                   "sources": lambda: self.sources,
                   "shards": lambda kernel, number: [["a_test"]] * number}
        with contextlib.ExitStack() as stack, \
                contextlib.redirect_stdout(io.StringIO()) as said:
            for name, value in changes.items():
                stack.enter_context(mock.patch.object(tool, name, value))
            stack.enter_context(mock.patch.object(tool.Part, "run", command))
            stack.enter_context(mock.patch.object(tool.coverage, "count", self.count))
            stack.enter_context(mock.patch.object(tool.coverage, "mismatches", self.mismatches))
            stack.enter_context(mock.patch.object(sys, "argv", ["check", *arguments]))
            stack.enter_context(mock.patch.dict(os.environ, environment))
            for name in ("COVERAGE", "STORM_SECONDS"):
                if name not in environment:
                    os.environ.pop(name, None)
            check = tool.Check(tool.parse())
            check.run()
            self.failed = check.report()
        return said.getvalue()

    AMD64 = 2 * [("amd64", None)]
    OTHERS = [*(2 * [("rt", tool.BRIEF["STORM_SECONDS"]), ("debug", None), ("kcsan", None)]),
              ("cloud", None)]
    COMMANDS = ["tools/lint", "tools/tests/run", "tools/user-tests"]

    def test_the_default_is_one_kernel_of_debians(self):
        said = self.check()
        self.assertEqual(self.ran, self.AMD64)
        self.assertEqual(self.got, [("amd64",)])
        self.assertCountEqual(self.commands, self.COMMANDS)
        self.assertEqual(said.splitlines()[-1], "5 passed, 0 failed, 0 skipped")

    def test_all_of_them(self):
        said = self.check("--all")
        self.assertCountEqual(self.ran, self.AMD64 + self.OTHERS)
        self.assertEqual(self.got, [("amd64", "rt", "debug", "kcsan", "cloud")])
        self.assertEqual(said.splitlines()[-1], "13 passed, 0 failed, 0 skipped")

    def test_all_adds_up_what_has_passed(self):
        self.check()
        said = self.check("--all")
        self.assertCountEqual(self.ran, self.OTHERS)
        self.assertEqual(self.commands, [])
        self.assertEqual(said.splitlines()[-1], "13 passed, 0 failed, 0 skipped")
        self.check("--all")
        self.assertEqual(self.ran, [])

    def test_what_is_about_other_sources_runs_again(self):
        self.check()
        self.sources = "others"
        self.check("--all")
        self.assertCountEqual(self.ran, self.AMD64 + self.OTHERS)
        self.assertCountEqual(self.commands, self.COMMANDS)

    def test_what_has_failed_runs_again(self):
        self.check(status=tap.FAIL)
        self.assertTrue(self.failed)
        self.check("--all")
        self.assertCountEqual(self.ran, self.AMD64 + self.OTHERS)
        self.assertEqual(self.commands, [])

    def test_without_all_everything_runs(self):
        self.check()
        self.check()
        self.assertEqual(self.ran, self.AMD64)

    def test_one_kernel_alone(self):
        self.check("--kernel", "rt")
        self.assertEqual((self.ran, self.commands, self.got),
                         (2 * [("rt", None)], [], [("rt",)]))
        self.check("--kernel", "cloud")
        self.assertEqual((self.ran, self.programs), ([("cloud", None)], tool.CLOUD))

    def test_no_more_than_so_many_vms_at_a_time_and_none_when_one_has_failed(self):
        lock, now, most, begun = threading.Lock(), 0, 0, 0

        def run(_part, kernel, *_arguments, **_options):
            nonlocal now, most, begun
            with lock:
                now, begun = now + 1, begun + 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1
            if kernel == "amd64":
                raise OSError("no VM")

        with self.assertRaisesRegex(OSError, "no VM"):
            self.check("--all", run=run)
        self.assertEqual(most, tool.AT_A_TIME)
        # The two that failed, and what may have begun in their places.
        self.assertLessEqual(begun, 4)

    def test_what_is_in_user_is_built_only_for_its_tests(self):
        self.check("--kernel", "amd64")
        self.build_user.assert_not_called()
        self.check()
        self.build_user.assert_called_once()

    def test_what_is_asked_for_is_not_shortened(self):
        self.check("--all", STORM_SECONDS="9")
        self.assertEqual({seconds for _, seconds in self.ran}, {"9"})

    def test_lines_are_counted_on_the_debug_kernel_and_printed(self):
        said = self.check("--all")
        self.assertEqual(self.counted, 2 * ["debug"])
        self.assertIn("coverage: 50.0 % of 2 lines", said)
        for arguments, environment in ((("--kernel", "amd64"), {}),
                                       (("--kernel", "debug", "storm_test"), {}),
                                       (("--kernel", "debug"), {"COVERAGE": "0"})):
            self.check(*arguments, **environment)
            self.assertEqual(self.counted, [])
        self.check("storm_test", "--kernel", "debug", COVERAGE="1")
        self.assertEqual(self.counted, ["debug"])

    def test_a_line_that_is_not_listed_fails_if_asked_for(self):
        self.mismatches.return_value = ["lock/plan.rs:2 is not reached"]
        said = self.check("--kernel", "debug")
        self.assertFalse(self.failed)
        self.assertIn("lock/plan.rs:2 is not reached", said)
        self.assertEqual(said.splitlines()[-1], "2 passed, 0 failed, 1 skipped")
        said = self.check("--kernel", "debug", COVERAGE="1")
        self.assertTrue(self.failed)
        self.assertIn("lock/plan.rs:2 is not reached", said)

    def test_counters_that_cannot_be_read_fail(self):
        self.count.side_effect = ValueError("no counters")
        self.check("--kernel", "debug")
        self.assertTrue(self.failed)


if __name__ == "__main__":
    unittest.main()
