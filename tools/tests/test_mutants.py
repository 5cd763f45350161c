#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Do the patches of selftests/mutants fit the module and the tests as they are?"""

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
    def test_every_patch_applies_to_the_sources(self):
        for each in mutant.mutants():
            with self.subTest(each.name), tempfile.TemporaryDirectory() as tree:
                tree = pathlib.Path(tree)
                mutant.copy_sources(tree)
                before = {file: file.read_bytes() for file in tree.rglob("*.rs")}
                self.assertEqual(each.apply(tree), "")
                self.assertNotEqual(before, {f: f.read_bytes() for f in tree.rglob("*.rs")})

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
