#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/tap.py see every failure, also of programs and VMs that die before they can tell?"""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import tap  # noqa: E402  pylint: disable=wrong-import-position

GOOD = """
# Subtest: lock_test
TAP version 13
1..3
# Starting 3 tests from 2 test cases.
#  RUN           lock.anonymous ...
#            OK  lock.anonymous
ok 1 lock.anonymous
#  RUN           lock.file ...
# lock_test.c:40:file:no disk
#      SKIP      TEST_DISK is not set
#            OK  lock.file
ok 2 lock.file # SKIP TEST_DISK is not set
#  RUN           storm.mlock.replace ...
# lock_test.c:59:replace:SEED=12345
# lock_test.c:117:replace:5 calls, 2 changed within the call
#            OK  storm.mlock.replace
ok 3 storm.mlock.replace
# PASSED: 3 / 3 tests passed.
# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:1 error:0
# lock_test: exit status 0, 3 of 3 tests
2 passed, 0 failed, 1 skipped
""".strip().splitlines()

BAD = """
# Subtest: hole_test
TAP version 13
1..2
#  RUN           hole.start ...
# hole_test.c:30:start:SEED=7
# hole_test.c:31:start:Expected 0 (0) == ret (-12)
# start: Test terminated by assertion
#          FAIL  hole.start
not ok 1 hole.start
#  RUN           hole.end ...
#            OK  hole.end
ok 2 hole.end
# FAILED: 1 / 2 tests passed.
# hole_test: exit status 1, 2 of 2 tests
""".strip().splitlines()

# What becomes of a kernel log at insmod.
KUNIT = """
[    2.100000] mlock_rs: loading out-of-tree module taints kernel.
[    2.200000] KTAP version 1
[    2.200100] 1..2
[    2.200200]     KTAP version 1
[    2.200300]     # Subtest: mlock_rs_range
[    2.200400]     # module: mlock_rs
[    2.200500]     1..2
[    2.250000]     ok 1 covering_rounds
[    2.260000]     ok 2 join_touches
[    2.260100] # mlock_rs_range: pass:2 fail:0 skip:0 total:2
[    2.260200] # Totals: pass:2 fail:0 skip:0 total:2
[    2.260300] ok 1 mlock_rs_range
[    2.260400]     KTAP version 1
[    2.260500]     # Subtest: mlock_rs_stats
[    2.260600]     1..1
[    2.270000]     ok 1 slots
[    2.270100] ok 2 mlock_rs_stats
""".strip().splitlines()

KUNIT_BAD = """
[    3.000000]     KTAP version 1
[    3.000000]     # Subtest: mlock_rs_range
[    3.000000]     1..2
[    3.100000]     # covering_rounds: ASSERTION FAILED at mm/range.rs:120
[    3.100000]     Expected covered(1, 1)? == Some((0, 1)) to be true, but is false
[    3.200000]     # covering_rounds.speed: normal
[    3.200000]     not ok 1 covering_rounds
[    3.300000]     ok 2 join_touches
[    3.300000] not ok 1 mlock_rs_range
""".strip().splitlines()


def stream(lines, why="the VM ended"):
    """The stream after the lines, one of which arrives each second."""
    result = tap.Stream()
    for now, line in enumerate(lines):
        result.feed(line, now)
    result.end(len(lines), why)
    return result


def brief(tests):
    return [(test.full_name(), test.status, test.count) for test in tests]


class Stream(unittest.TestCase):
    def test_good_programs(self):
        result = stream(GOOD)
        self.assertEqual(brief(result.tests), [
            ("lock_test:lock.anonymous", "ok", 1), ("lock_test:lock.file", "skip", 1),
            ("lock_test:storm.mlock.replace", "ok", 1)])
        self.assertEqual(tap.counts(result.tests), [2, 0, 1])
        self.assertEqual(result.summary, [2, 0, 1])

    def test_time_is_that_between_run_and_result(self):
        self.assertEqual([test.seconds for test in stream(GOOD).tests], [2, 4, 4])

    def test_a_failure_keeps_what_the_test_wrote_and_only_that(self):
        test = stream(BAD).tests[0]
        self.assertEqual((test.full_name(), test.status), ("hole_test:hole.start", "FAIL"))
        self.assertEqual(test.excerpt(), BAD[4:7])
        self.assertEqual(stream(BAD).tests[1].lines, [])

    def test_excerpt_keeps_the_seed_whatever_follows(self):
        lines = BAD[:5] + [f"# line {n}" for n in range(100)] + BAD[5:]
        shown = stream(lines).tests[0].excerpt(most=10)
        self.assertEqual(len(shown), 12)
        self.assertIn("92 lines more", shown[0])
        self.assertIn("SEED=7", shown[1])
        self.assertEqual(shown[-1], BAD[6])

    def test_note_is_the_last_word_of_the_test_or_the_reason(self):
        self.assertEqual([test.note() for test in stream(GOOD).tests], [
            "", "TEST_DISK is not set", "5 calls, 2 changed within the call"])

    def test_a_seed_alone_is_no_note(self):
        lines = [line for line in GOOD if "5 calls" not in line]
        self.assertEqual(stream(lines).tests[2].note(), "")

    def test_expected_failures(self):
        tests = stream(["# Subtest: a_test", "1..3", "ok 1 a.b # XFAIL known", "ok 2 a.c # XPASS x",
                        "ok 3 # SKIP a.d", "# a_test: exit status 0"]).tests
        self.assertEqual([(test.name, test.status, test.reason) for test in tests], [
            ("a.b", "skip", "XFAIL known"), ("a.c", "ok", "XPASS x"), ("a.d", "skip", "")])

    def test_what_looks_like_a_result_is_none(self):
        lines = ["# ok 1 no", "okay", "  ok 5 no", "not okay", "ok: 3"]
        tests = stream(GOOD[:5] + lines + GOOD[5:]).tests
        self.assertEqual(tap.counts(tests), [2, 0, 1])

    def test_results_without_a_plan_or_numbers(self):
        result = tap.Stream("lint")
        for line in ("ok - rustfmt", "# bad indentation", "not ok - checkpatch a.c",
                     "1 passed, 1 failed, 0 skipped"):
            result.feed(line, 0)
        self.assertEqual(brief(result.tests), [
            ("lint:rustfmt", "ok", 1), ("lint:checkpatch a.c", "FAIL", 1)])
        self.assertEqual(result.tests[1].lines, ["# bad indentation"])


class Deaths(unittest.TestCase):
    """A crash, a timeout or a truncated stream at any line never looks like success."""

    def test_a_program_that_crashes_in_a_test(self):
        result = stream(GOOD[:9] + ["# lock_test: exit status 139, 1 of 3 tests"])
        self.assertEqual(brief(result.tests), [
            ("lock_test:lock.anonymous", "ok", 1), ("lock_test:lock.file", "FAIL", 1),
            ("lock_test:1 of 3 tests", "FAIL", 1)])
        self.assertIn("exit status 139", result.tests[1].reason)

    def test_a_vm_that_is_killed(self):
        tests = stream(GOOD[:16], "killed after 900 s").tests
        self.assertEqual(brief(tests)[2:], [("lock_test:storm.mlock.replace", "FAIL", 1)])
        self.assertEqual(tests[2].reason, "killed after 900 s")
        self.assertIn("SEED=12345", tests[2].excerpt()[0])

    def test_all_planned_tests_are_missed(self):
        tests = stream(GOOD[:3]).tests
        self.assertEqual(brief(tests), [("lock_test:3 of 3 tests", "FAIL", 3)])
        self.assertEqual(tap.counts(tests), [0, 3, 0])

    def test_a_program_without_a_plan(self):
        for lines in (["# Subtest: a_test"], ["# Subtest: a_test", "1..0"],
                      ["# Subtest: a_test", "# a_test: exit status 127, no such test program"],
                      ["# Subtest: a_test", "1..0", "# a_test: exit status 0"]):
            with self.subTest(lines=lines):
                self.assertEqual(brief(stream(lines).tests), [("a_test:all tests", "FAIL", 1)])

    def test_a_failing_exit_status_after_passed_tests(self):
        tests = stream(GOOD[:-2] + ["# lock_test: exit status 134, 3 of 3 tests"]).tests
        self.assertEqual(brief(tests)[3:], [("lock_test:end", "FAIL", 1)])

    def test_a_failing_exit_status_after_failed_tests_is_told_already(self):
        self.assertEqual(tap.counts(stream(BAD).tests), [1, 1, 0])

    def test_more_results_than_planned(self):
        tests = stream(["# Subtest: a_test", "1..1", "ok 1 a", "ok 2 b",
                        "# a_test: exit status 0"]).tests
        self.assertEqual(tap.counts(tests), [2, 1, 0])

    def test_the_next_program_after_one_that_vanished(self):
        result = stream(GOOD[:9] + BAD)
        self.assertEqual(tap.counts(result.tests), [2, 3, 0])

    def test_no_line_to_stop_at_looks_like_success(self):
        for length in range(len(GOOD) - 1):
            with self.subTest(length=length):
                result = stream(GOOD[:length])
                self.assertIsNone(result.summary)
                if 0 < length < len(GOOD) - 1 and GOOD[length - 1][:15] != "# lock_test: ex":
                    self.assertGreater(tap.counts(result.tests)[1], 0)


class Kunit(unittest.TestCase):
    def read(self, log):
        return tap.kunit(log, "kernel.log")

    def test_good_suites(self):
        tests = self.read(KUNIT)
        self.assertEqual(brief(tests), [
            ("mlock_rs_range:covering_rounds", "ok", 1), ("mlock_rs_range:join_touches", "ok", 1),
            ("mlock_rs_stats:slots", "ok", 1)])
        self.assertAlmostEqual(tests[0].seconds, 0.0495)

    def test_a_failure_has_the_assertion(self):
        tests = self.read(KUNIT_BAD)
        self.assertEqual(tap.counts(tests), [1, 1, 0])
        self.assertIn("ASSERTION FAILED at mm/range.rs:120", tests[0].lines[0])
        self.assertIn("Expected covered(1, 1)?", tests[0].lines[1])
        self.assertEqual(len(tests[0].lines), 2)
        self.assertEqual(tests[0].where, "kernel.log:7")

    def test_once_failed_is_failed(self):
        for log in (KUNIT + KUNIT_BAD, KUNIT_BAD + KUNIT, KUNIT + KUNIT_BAD + KUNIT):
            self.assertEqual(tap.counts(self.read(log)), [2, 1, 0])

    def test_a_suite_that_does_not_end(self):
        tests = self.read(KUNIT[:8])
        self.assertEqual(brief(tests)[1:], [("mlock_rs_range:1 of 2 tests", "FAIL", 1)])
        self.assertEqual(tap.counts(self.read(KUNIT[:-1]))[1], 1)

    def test_a_suite_that_fails_without_a_failing_test(self):
        log = KUNIT[:-1] + ["[    2.270100] not ok 2 mlock_rs_stats"]
        self.assertEqual(tap.counts(self.read(log)), [3, 1, 0])

    def test_a_suite_that_ends_early(self):
        log = KUNIT[:8] + KUNIT[9:]
        self.assertEqual(tap.counts(self.read(log)), [2, 1, 0])

    def test_other_lines_in_between(self):
        log = KUNIT[:7] + ["[    2.24] clocksource: tsc: ok", "[    2.24]     x: y"] + KUNIT[7:]
        self.assertEqual(tap.counts(self.read(log)), [3, 0, 0])

    def test_a_log_without_suites(self):
        self.assertEqual(self.read(["[    0.1] KTAP version 1", "[    0.1] 1..0", "ok 1 x"]), [])


class Document(unittest.TestCase):
    def write(self, lines, group=None):
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "x.tap"
            document, result = tap.Document(path, group), tap.Stream(group)
            for now, line in enumerate(lines):
                document.line(line, result.feed(line, now))
            document.close(result.end(len(lines), "end"))
            return path.read_text().splitlines()

    def test_a_run_that_ended_before_the_first_program(self):
        self.assertEqual(self.write([]), ["KTAP version 1"])

    def test_each_program_is_a_subtest(self):
        lines = self.write(GOOD[:-1] + BAD + ["3 passed, 1 failed, 1 skipped"])
        self.assertEqual([line for line in lines if line[:1] not in " #"], [
            "KTAP version 1", "ok 1 lock_test", "not ok 2 hole_test"])
        self.assertEqual(lines[1:4], [
            "    KTAP version 1", "    # Subtest: lock_test", "    1..3"])

    def test_every_line_that_a_test_wrote_is_kept(self):
        lines = self.write(GOOD)
        for line in GOOD[3:-1]:
            self.assertIn("    " + line, lines)

    def test_a_program_that_dies_is_not_ok(self):
        self.assertEqual(self.write(GOOD[:9])[-1], "not ok 1 lock_test")

    def test_one_group(self):
        self.assertEqual(self.write(["ok - a", "1 passed, 0 failed, 0 skipped"], "lint"), [
            "KTAP version 1", "    KTAP version 1", "    # Subtest: lint", "    ok - a",
            "# 1 passed, 0 failed, 0 skipped", "ok 1 lint"])


if __name__ == "__main__":
    unittest.main()
