#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Do the mutants of selftests/mutants.toml fit the module and the tests as they are?"""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import kselftest  # noqa: E402  pylint: disable=wrong-import-position
import mutant  # noqa: E402  pylint: disable=wrong-import-position

OUTPUT = """\
# Subtest: hole_test
TAP version 13
1..2
#  RUN           hole.at_the_start.nothing_changes ...
ok 1 hole.at_the_start.nothing_changes
#  RUN           hole.at_the_end.nothing_changes ...
# hole_test.c:80:nothing_changes:Expected 0 (0) == ret (1)
not ok 2 hole.at_the_end.nothing_changes
# hole_test: exit status 1, 2 of 2 tests
# Subtest: kill_test
1..2
#  RUN           fuse.first_page.sigkill ...
ok 1 fuse.first_page.sigkill
#  RUN           fuse.last_page.sigkill ...
# kill_test: exit status 137, 1 of 2 tests
1 passed, 2 failed, 0 skipped
"""


class Mutants(unittest.TestCase):
    def test_every_one_applies_to_the_sources(self):
        with tempfile.TemporaryDirectory() as tree:
            tree = pathlib.Path(tree)
            for each in mutant.mutants():
                with self.subTest(each.name):
                    mutant.copy_sources(tree)
                    before = [(tree / edit["file"]).read_text() for edit in each.edits]
                    self.assertEqual(each.apply(tree), "")
                    self.assertNotEqual(before, [(tree / e["file"]).read_text()
                                                 for e in each.edits])

    def test_what_to_find_is_there_once(self):
        with tempfile.TemporaryDirectory() as tree:
            tree = pathlib.Path(tree)
            for text, times in (("none", 0), ("find, find", 2)):
                (tree / "a.rs").write_text(text)
                it = mutant.Mutant("1-a", "", ["t"], [{"file": "a.rs", "find": "find", "put": "x"}])
                self.assertEqual(it.apply(tree), f"a.rs has {times} times: find")
                self.assertEqual((tree / "a.rs").read_text(), text)

    def test_what_is_expected_to_fail_is_a_test(self):
        known = mutant.known_tests()
        for each in mutant.mutants():
            with self.subTest(each.name):
                self.assertTrue(each.expect)
                self.assertEqual(set(each.expect) - known, set())

    def test_names_and_numbers_are_unique(self):
        names = [each.name for each in mutant.mutants()]
        for part in (0, 2):
            self.assertEqual(len({name.partition("-")[part] for name in names}), len(names))

    def test_failures_are_read_from_the_output(self):
        self.assertEqual(kselftest.failures(OUTPUT),
                         ["hole_test:hole.at_the_end.nothing_changes",
                          "kill_test:fuse.last_page.sigkill"])
        self.assertEqual(kselftest.failures(""), [])


if __name__ == "__main__":
    unittest.main()
