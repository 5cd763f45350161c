#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which root does tools/toolchain make and enter, and what if it cannot?"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from common import CLONE  # noqa: E402

# Stands for Debian; $DOWN is no network.
MMDEBSTRAP = """#!/bin/bash
[ -z "${DOWN:-}" ] || { echo "E: Could not resolve 'a mirror'" >&2; exit 1; }
for option; do
	case $option in --include=*) echo "${option#*=}" >"$LOG" ;; esac
done
tar -c -T /dev/null
"""
COMMANDS = {
    "mmdebstrap": MMDEBSTRAP,
    # The namespace that keeps its mounts, and the root, are not needed.
    "unshare": '#!/bin/sh\nshift\nexec "$@"\n',
    "bwrap": '#!/bin/sh\necho "entered $2"\n',
    "newuidmap": "#!/bin/sh\n",
    "sleep": "#!/bin/sh\n",
}


class Toolchain(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.cache, self.log = self.home / "cache", self.home / "log"
        (self.home / "bin").mkdir()
        for name, text in COMMANDS.items():
            (self.home / "bin" / name).write_text(text)
            (self.home / "bin" / name).chmod(0o755)

    def run_it(self, *arguments, **environment):
        """What tools/toolchain prints in either way; its status is kept."""
        self.log.unlink(missing_ok=True)
        known = {k: v for k, v in os.environ.items() if k != "MLOCK_RS_INSIDE"}
        done = subprocess.run(
            [CLONE / "tools/toolchain", *arguments], text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**known, "PATH": f"{self.home}/bin:{os.environ['PATH']}",
                 "MLOCK_RS_CACHE": str(self.cache), "LOG": str(self.log), **environment})
        self.status = done.returncode
        return done.stdout

    def installed(self):
        """The packages of the root that was made, if one was."""
        return self.log.read_text().strip().split(",") if self.log.exists() else []

    def test_the_demo_fetches_no_clang(self):
        self.assertIn("entered", self.run_it("demo", "true"))
        self.assertIn("rustc", self.installed())
        self.assertNotIn("clang", self.installed())

    def test_the_tests_have_what_the_demo_has_and_more(self):
        self.run_it("demo", "true")
        small = set(self.installed())
        self.run_it("run", "true")
        self.assertLess(small | {"clang", "rust-clippy"}, set(self.installed()))

    def test_the_demo_takes_the_root_of_the_tests_if_there_is_one(self):
        entered = self.run_it("run", "true").splitlines()[-1]
        self.assertEqual(self.run_it("demo", "true").splitlines(), [entered])
        self.assertEqual(self.installed(), [])

    def test_a_root_is_made_once(self):
        self.run_it("run", "true")
        self.run_it("run", "true")
        self.assertEqual(self.installed(), [])

    def test_a_root_of_its_own(self):
        said = self.run_it("root", "programs")
        self.assertEqual(self.status, 0)
        self.assertIn("chrony", self.installed())
        self.assertTrue(pathlib.Path(said.splitlines()[-1]).is_dir())
        self.assertIn("there is no tools/packages.none", self.run_it("root", "none"))

    def test_no_network(self):
        said = self.run_it("run", "true", DOWN="1")
        self.assertIn("cannot make the Debian root: no network", said)
        self.assertNotEqual(self.status, 0)
        self.assertIn("entered", self.run_it("run", "true"))


if __name__ == "__main__":
    unittest.main()
