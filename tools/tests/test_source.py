#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/source.py keep a patched copy of a tree, and rewrite only what has to change?"""

import difflib
import io
import os
import pathlib
import sys
import tempfile
import unittest
from contextlib import redirect_stderr
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import source  # noqa: E402  pylint: disable=wrong-import-position

FILES = {"Kbuild": "", "Makefile": "all:\n", "mm/one.c": "int one;\n", "mm/two.c": "int two;\n"}


def patch(file, before, after):
    old = f"a/{file}" if before else "/dev/null"
    return "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), old,
                                        f"b/{file}"))


class SourceTree(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.theirs = self.home / "theirs"
        self.patches = self.home / "clone/patches" / source.VERSION
        self.patches.mkdir(parents=True)
        for name, text in FILES.items():
            self.write(name, text)
        environment = {"KERNEL_SRC": str(self.theirs), "MLOCK_RS_CACHE": str(self.home)}
        for change in (mock.patch.object(source, "CLONE", self.home / "clone"),
                       mock.patch.dict(os.environ, environment)):
            change.start()
            self.addCleanup(change.stop)

    def write(self, name, text):
        (self.theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (self.theirs / name).write_text(text)

    def series(self, *patches):
        for old in self.patches.iterdir():
            old.unlink()
        for number, text in enumerate(patches):
            (self.patches / f"{number:04}.patch").write_text(text)

    def update(self):
        """The copy's files by name, and those written by this update."""
        tree = source.Source().tree
        before = {f: f.stat().st_mtime_ns for f in tree.rglob("*")}
        with redirect_stderr(io.StringIO()) as said:
            try:
                source.Source().update()
            finally:
                self.said = said.getvalue()
        files = [f for f in tree.rglob("*") if f.is_file()]
        return ({str(f.relative_to(tree)): f.read_text() for f in files},
                {str(f.relative_to(tree)) for f in files
                 if before.get(f) != f.stat().st_mtime_ns})

    def test_no_patches(self):
        self.assertEqual(self.update()[0], FILES)
        self.assertEqual(self.update(), (FILES, set()))

    def test_a_patch_is_applied_to_the_copy_only(self):
        self.series(patch("mm/one.c", FILES["mm/one.c"], "int uno;\n"))
        self.assertEqual(self.update()[0]["mm/one.c"], "int uno;\n")
        self.assertEqual((self.theirs / "mm/one.c").read_text(), FILES["mm/one.c"])

    def test_a_changed_series_rewrites_only_what_it_changes(self):
        one = patch("mm/one.c", FILES["mm/one.c"], "int uno;\n")
        self.series(one, patch("mm/two.c", FILES["mm/two.c"], "int due;\n"))
        self.update()
        self.series(one, patch("mm/two.c", FILES["mm/two.c"], "int dos;\n"))
        files, written = self.update()
        self.assertEqual((files["mm/two.c"], written), ("int dos;\n", {"mm/two.c"}))
        self.series(one)
        files, written = self.update()
        self.assertEqual((files["mm/two.c"], written), (FILES["mm/two.c"], {"mm/two.c"}))

    def test_the_first_patches_alone_go_into_a_tree_of_their_own(self):
        self.series(patch("mm/one.c", FILES["mm/one.c"], "int uno;\n"),
                    patch("mm/two.c", FILES["mm/two.c"], "int due;\n"))
        self.update()
        with mock.patch.dict(os.environ, {source.FIRST: "1"}):
            self.update()
            alone = source.Source().tree
        self.assertNotEqual(alone, source.Source().tree)
        self.assertEqual([(alone / f"mm/{f}.c").read_text() for f in ("one", "two")],
                         ["int uno;\n", "int two;\n"])
        self.assertEqual((source.Source().tree / "mm/two.c").read_text(), "int due;\n")

    def test_patches_build_on_each_other_and_make_files(self):
        self.series(patch("mm/new.c", "", "int a;\n"), patch("mm/new.c", "int a;\n", "int b;\n"))
        self.assertEqual(self.update()[0]["mm/new.c"], "int b;\n")
        self.series()
        self.assertNotIn("mm/new.c", self.update()[0])

    def test_a_patch_that_does_not_apply_changes_nothing(self):
        self.update()
        self.series(patch("mm/one.c", FILES["mm/one.c"], "int uno;\n"),
                    patch("mm/two.c", "int other;\n", "int due;\n"))
        with self.assertRaises(SystemExit):
            self.update()
        self.assertIn("0001.patch does not apply", self.said)
        self.series()
        self.assertEqual(self.update(), (FILES, set()))

    def test_a_tree_that_has_the_series_is_taken_as_it_is(self):
        self.series(patch("mm/one.c", FILES["mm/one.c"], "int uno;\n"))
        self.write("mm/one.c", "int uno;\n")
        self.assertEqual(self.update()[0]["mm/one.c"], "int uno;\n")

    def test_changes_in_the_users_tree_arrive(self):
        self.series(patch("mm/one.c", FILES["mm/one.c"], "int uno;\n"))
        self.update()
        self.write("mm/two.c", "int zwei, two;\n")
        (self.theirs / "Makefile").write_text("all: more\n")
        (self.theirs / "Kbuild").rename(self.theirs / "Kbuild2")
        self.write("Kbuild", "#\n")
        files, written = self.update()
        self.assertEqual(written, {"mm/two.c", "Makefile", "Kbuild", "Kbuild2"})
        self.assertEqual(files["mm/one.c"], "int uno;\n")
        (self.theirs / "Kbuild2").unlink()
        self.assertNotIn("Kbuild2", self.update()[0])

    def test_what_a_build_left_is_not_copied(self):
        for name in (".config", "mm/one.o", "include/generated/x.h", "include/config/auto.conf"):
            self.write(name, "x")
        self.assertEqual(self.update()[0], FILES)


if __name__ == "__main__":
    unittest.main()
