#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does another clone begin with what cargo has built of the same crates, and only of these?"""

import os
import pathlib
import shutil
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import user_target  # noqa: E402


@unittest.skipUnless(shutil.which("rsync"), "there is no rsync")
class UserTarget(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.clone("first")
        self.build("libc", "mlockctl")

    def clone(self, name, lock="libc 1", compiler="root-1"):
        """Go on in another clone."""
        self.target = self.home / name / "build/user/debug"
        (self.home / name / "user").mkdir(parents=True)
        (self.home / name / "user/Cargo.lock").write_text(lock)
        for patch in (mock.patch.multiple(user_target, CLONE=self.home / name, TARGET=self.target),
                      mock.patch.dict(os.environ, {"MLOCK_RS_CACHE": str(self.home),
                                                   "MLOCK_RS_INSIDE": compiler})):
            patch.start()
            self.addCleanup(patch.stop)

    def build(self, *crates):
        for part in user_target.PARTS:
            (self.target / part).mkdir(parents=True)
            for crate in crates:
                (self.target / part / crate).touch()
                os.utime(self.target / part / crate, (1, 1))

    def there(self):
        return sorted(path.name for path in self.target.glob("deps/*"))

    def test_other_crates_with_their_times_and_not_what_is_ours(self):
        user_target.keep()
        self.clone("second")
        user_target.restore()
        self.assertEqual(self.there(), ["libc"])
        self.assertEqual((self.target / "deps/libc").stat().st_mtime, 1)

    def test_other_versions_and_another_compiler_are_something_else(self):
        user_target.keep()
        for number, other in enumerate(({"lock": "libc 2"}, {"compiler": "root-2"})):
            self.clone(f"other{number}", **other)
            user_target.restore()
            self.assertEqual(self.there(), [])

    def test_what_was_built_here_stays(self):
        user_target.keep()
        self.clone("second")
        self.build("clap")
        user_target.restore()
        self.assertEqual(self.there(), ["clap"])

    def test_only_one_is_kept(self):
        user_target.keep()
        self.clone("second", lock="libc 2")
        self.build("libc")
        user_target.keep()
        self.assertEqual(len(list(self.home.glob(user_target.PREFIX + "*"))), 1)
        self.assertEqual(list((self.home / "tmp").iterdir()), [])


if __name__ == "__main__":
    unittest.main()
