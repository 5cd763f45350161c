#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which version of Debian's kernels does lib/debian.py take, and is all of it of one version?"""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import debian  # noqa: E402

SERIES = debian.SERIES


class Packages(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        environment = mock.patch.dict(os.environ, {"MLOCK_RS_CACHE": str(self.home)})
        environment.start()
        self.addCleanup(environment.stop)
        self.asked = []

    def has(self, sources, kernels):
        """Debian's answers: versions of the source, and of the kernels by release."""
        def apt(_self, *words):
            self.asked.append(words)
            match words[:2]:
                case "apt-cache", "madison":
                    return "".join(f" {debian.SOURCE} | {v} | somewhere\n" for v in sources)
                case "apt-cache", "pkgnames":
                    return "".join(f"linux-binary-{r}-{f}\n" for r in kernels
                                   for f in debian.FLAVOURS.values())
                case "apt-cache", "show":
                    release = words[3].removeprefix("linux-binary-").removesuffix("-amd64")
                    return f"Package: {words[3]}\nVersion: {kernels[release]}\n"
                case "apt-get", "download":
                    return "'a' b 1000000 c\n"
                case "sh", "-c":
                    for package in words[4:]:
                        pathlib.Path(words[3], package).touch()
            return ""
        self.addCleanup(mock.patch.stopall)
        mock.patch.object(debian.Debian, "apt", apt).start()
        mock.patch.object(subprocess, "run", lambda command, **_: os.makedirs(
            command[3], exist_ok=True)).start()
        return debian.Debian()

    def fetched(self):
        return [words[4:] for words in self.asked if words[0] == "sh"]

    def test_the_newest_that_has_its_source(self):
        kernels = {f"{SERIES}.4+deb13": f"{SERIES}.4-1", f"{SERIES}.5+deb13": f"{SERIES}.5-1"}
        for sources, wanted in (([f"{SERIES}.5-1", f"{SERIES}.4-1"], 5), ([f"{SERIES}.4-1"], 4)):
            it = self.has(sources, kernels)
            self.assertEqual(it.newest, (f"{SERIES}.{wanted}-1", f"{SERIES}.{wanted}+deb13"))

    def test_none_is_left(self):
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
            self.has([], {}).newest  # pylint: disable=expression-not-assigned
        self.assertIn("build the module for your own kernel: make KDIR=", said.getvalue())

    def test_a_kernel_is_fetched_once_with_all_its_parts(self):
        it = self.has([f"{SERIES}.4-1"], {f"{SERIES}.4+deb13": f"{SERIES}.4-1"})
        with contextlib.redirect_stderr(io.StringIO()):
            it.get_kernel("rt")
            it.get_kernel("rt")
        self.assertEqual(self.fetched(), [tuple(
            f"{part}-{SERIES}.4+deb13-rt-amd64={SERIES}.4-1" for part in debian.PARTS)])
        self.assertEqual(it.release("rt"), f"{SERIES}.4+deb13-rt-amd64")

    def test_what_is_there_stays_in_use(self):
        old = {f"{SERIES}.4+deb13": f"{SERIES}.4-1"}
        with contextlib.redirect_stderr(io.StringIO()):
            self.has([f"{SERIES}.4-1"], old).get_kernel("amd64")
        it = self.has([f"{SERIES}.5-1"], {f"{SERIES}.5+deb13": f"{SERIES}.5-1"})
        it.get_kernel("amd64")
        self.assertEqual((len(self.fetched()), it.version()[0]), (1, f"{SERIES}.4-1"))

    def test_another_kernel_of_a_newer_version_replaces_all(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.has([f"{SERIES}.4-1"], {f"{SERIES}.4+deb13": f"{SERIES}.4-1"}).get_kernel("amd64")
        it = self.has([f"{SERIES}.5-1"], {f"{SERIES}.5+deb13": f"{SERIES}.5-1"})
        with contextlib.redirect_stderr(io.StringIO()) as said:
            it.get_kernel("rt")
        self.assertIn("takes the place of", said.getvalue())
        self.assertEqual(it.version(), (f"{SERIES}.5-1", f"{SERIES}.5+deb13"))
        self.assertFalse(it.packages("amd64").exists())
        self.assertTrue(it.packages("rt").exists())


if __name__ == "__main__":
    unittest.main()
