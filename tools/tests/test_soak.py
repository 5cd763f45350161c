#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does tools/soak fill its time with rounds that can be repeated, and stop at the first failure?"""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from load import load  # noqa: E402
from tap import Test  # noqa: E402

soak = load("soak")


class Rounds(unittest.TestCase):
    def soak(self, seconds, fails_in=None, seed="7"):
        """The rounds of a soak on a clock of its own; a whole round takes 400 s of it."""
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        now, rounds = [1000.0], []

        def run(part, kernel, programs, settings, _timeout):
            now[0] += 400 * int(settings["STORM_SECONDS"]) / soak.AMOUNT["STORM_SECONDS"]
            rounds.append((kernel, programs, settings))
            part.tests.append(Test("storm_test", "storm.a"))
            if len(rounds) == fails_in:
                part.fail("storm_test", "storm.b", lines=["# SEED=" + settings["SEED"]])

        patches = (mock.patch.object(soak, "RESULTS", pathlib.Path(home.name) / "soak"),
                   mock.patch.object(soak, "kselftests", run),
                   mock.patch.object(soak.time, "monotonic", lambda: now[0]),
                   mock.patch.dict(os.environ, {"SEED": seed}))
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            out = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            it = soak.Soak(seconds)
            it.run()
            self.status = it.report()
        self.took, self.out = now[0] - 1000, out.getvalue().splitlines()
        return rounds

    def test_the_time_is_filled_with_rounds(self):
        for seconds in (90, 1800, 7200):
            with self.subTest(seconds=seconds):
                self.soak(seconds)
                self.assertGreater(self.took, 0.85 * seconds)
                self.assertLess(self.took, 1.1 * seconds)
                self.assertFalse(self.status)

    def test_every_kernel_has_its_turn(self):
        kernels = [kernel for kernel, _, _ in self.soak(3600)]
        self.assertEqual(kernels[:8], 2 * ["amd64", "rt", "debug", "kcsan"])
        self.assertEqual(len({kernel for kernel, _, _ in self.soak(90)}), 4)

    def test_every_round_has_a_seed_of_its_own_from_the_printed_one(self):
        seeds = [settings["SEED"] for _, _, settings in self.soak(1800)]
        self.assertEqual(len(set(seeds)), len(seeds))
        self.assertEqual(seeds, [settings["SEED"] for _, _, settings in self.soak(1800)])
        self.assertNotEqual(seeds, [s["SEED"] for _, _, s in self.soak(1800, seed="8")])
        self.assertEqual(self.out[0], "SEED=8")

    def test_a_failure_ends_it_with_what_repeats_the_round(self):
        rounds = self.soak(1800, fails_in=2)
        self.assertEqual(len(rounds), 2)
        self.assertTrue(self.status)
        kernel, programs, settings = rounds[1]
        self.assertIn(f"repeat this round: make check KERNEL={kernel} "
                      f"TESTS='{' '.join(programs)}'" + "".join(f" {name}={value}" for name, value in settings.items()), self.out)
        self.assertEqual(self.out[-1], "2 passed, 1 failed, 0 skipped")

    def test_what_is_counted_is_less_on_a_kernel_with_checkers(self):
        (_, _, amd64), _, (_, _, debug) = self.soak(1800)[:3]
        self.assertEqual(int(amd64["FUZZ_CALLS"]), 5 * int(debug["FUZZ_CALLS"]))
        self.assertEqual(amd64["STORM_SECONDS"], debug["STORM_SECONDS"])

    def test_what_is_not_random_is_in_every_round_but_a_short_one(self):
        rounds = self.soak(1800)
        for _, programs, _ in rounds[:4]:
            self.assertLess({"storm_test", *soak.AGAIN}, set(programs))
        for _, programs, _ in self.soak(90):
            self.assertIn("storm_test", programs)
            self.assertFalse(set(soak.AGAIN) & set(programs))

    def test_what_it_runs_is_there(self):
        for name in (*soak.LONG_FORM, *soak.AGAIN):
            program = name.partition(":")[0]
            self.assertTrue((soak.CLONE / f"selftests/{program}.c").exists(), program)

    def test_durations(self):
        self.assertEqual([soak.parse_duration(text) for text in ("90s", "30m", "2h")],
                         [90, 1800, 7200])
        for text in ("", "30", "m", "1.5h", "0s", "30 m"):
            with self.subTest(text=text), self.assertRaises(SystemExit):
                with contextlib.redirect_stderr(io.StringIO()):
                    soak.parse_duration(text)


if __name__ == "__main__":
    unittest.main()
