#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does tools/lint look again at what has changed, and only at that?"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from load import load  # noqa: E402

tool = load("lint")


class Checkpatch(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home, self.status, self.looked = pathlib.Path(home.name), 0, 0
        (self.home / "scripts").mkdir()
        for name in tool.Checkpatch.READS:
            (self.home / "scripts" / name).write_text(name)
        (self.home / "a.c").write_text("int a;\n")
        for name, value in {"CLONE": self.home, "run": self.run_it}.items():
            patch = mock.patch.object(tool, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        environment = mock.patch.dict(os.environ, {"MLOCK_RS_CACHE": home.name})
        environment.start()
        self.addCleanup(environment.stop)

    def run_it(self, *command, **_options):
        self.looked += 1
        return subprocess.CompletedProcess(command, self.status)

    def look(self, *options):
        """Returns whether it was looked at, and what the check says."""
        before = self.looked
        done = tool.Checkpatch(self.home)("a.c", *options)
        return self.looked > before, done.returncode

    def test_what_has_passed_is_not_looked_at_again(self):
        self.assertEqual([self.look(), self.look()], [(True, 0), (False, 0)])

    def test_what_has_failed_is(self):
        self.status = 1
        self.assertEqual([self.look(), self.look()], [(True, 1), (True, 1)])

    def test_another_text_other_options_another_checkpatch(self):
        self.look()
        (self.home / "a.c").write_text("int b;\n")
        self.assertEqual(self.look(), (True, 0))
        self.assertEqual(self.look("-f"), (True, 0))
        (self.home / "scripts/checkpatch.pl").write_text("newer")
        self.assertEqual([self.look(), self.look("-f")], [(True, 0)] * 2)

    def test_what_is_old_is_forgotten(self):
        self.look()
        for known in (self.home / "checkpatch").iterdir():
            os.utime(known, (0, 0))
        self.assertEqual(self.look(), (True, 0))


if __name__ == "__main__":
    unittest.main()
