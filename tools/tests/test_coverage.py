#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/coverage.py count what was reached, and tell what is missing in the documentation?"""

import hashlib
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import coverage  # noqa: E402

# A source with five lines that count, numbers 2, 3, 5, 8 and 9.
SOURCE = """fn look() {
    if !there {
        return Err(EINVAL);
    }
    Ok(())
}
fn other() {
    first();
    return Err(EINVAL);
}
""".splitlines()
ALL = {2: 7, 3: 1, 5: 6, 8: 1, 9: 1}

PAGE = """# Coverage

### lock/a.rs: look

```rust
return Err(EINVAL);
```

Nobody is ever
there.

## More
"""


def missed(*numbers):
    return {"lock/a.rs": {**ALL, **{number: 0 for number in numbers}}}


class Mismatches(unittest.TestCase):
    def wrong(self, counts, page=PAGE):
        return coverage.mismatches(counts, page, {"lock/a.rs": SOURCE})

    def test_a_line_with_a_reason(self):
        self.assertEqual(self.wrong(missed(3)), [])

    def test_a_line_without_a_reason(self):
        self.assertEqual(self.wrong(missed(3, 8)), [
            "lock/a.rs:8 is not reached, and no reason is listed: first();"])

    def test_the_same_line_in_another_function(self):
        self.assertEqual(self.wrong(missed(3, 9)), [
            "lock/a.rs:9 is not reached, and no reason is listed: return Err(EINVAL);"])

    def test_a_file_that_nothing_reached(self):
        counts = {**missed(3), "mm/b.rs": {1: 0}}
        sources = {"lock/a.rs": SOURCE, "mm/b.rs": ["fn b() {}"]}
        self.assertEqual(coverage.mismatches(counts, PAGE, sources), [
            "mm/b.rs:1 is not reached, and no reason is listed: fn b() {}"])

    def test_a_listed_line_that_is_reached(self):
        self.assertEqual(self.wrong(missed()), [
            "Documentation/coverage.md:3: lock/a.rs:3 is reached"])

    def test_a_listed_line_that_is_gone(self):
        self.assertEqual(self.wrong(missed(), PAGE.replace("EINVAL", "EPERM")), [
            "Documentation/coverage.md:3: there are no such lines in lock/a.rs"])

    def test_a_listed_line_that_is_in_another_function(self):
        self.assertEqual(self.wrong(missed(3), PAGE.replace(": look", ": other")), [
            "Documentation/coverage.md:3: lock/a.rs:9 is reached",
            "lock/a.rs:3 is not reached, and no reason is listed: return Err(EINVAL);"])

    def test_a_listed_line_without_code(self):
        self.assertEqual(self.wrong(missed(), PAGE.replace("return Err(EINVAL);", "}")), [
            "Documentation/coverage.md:3: there is nothing to reach"])

    def test_a_line_without_words(self):
        self.assertEqual(self.wrong(missed(3), PAGE.replace("Nobody is ever\nthere.", "")), [
            "Documentation/coverage.md:3: there is no reason"])

    def test_words_of_the_next_section_are_no_reason(self):
        page = PAGE.replace("Nobody is ever\nthere.", "") + "\nMore words.\n"
        self.assertEqual(self.wrong(missed(3), page), [
            "Documentation/coverage.md:3: there is no reason"])

    def test_an_entry_without_lines(self):
        page = PAGE.replace("return Err(EINVAL);\n", "")
        self.assertEqual(self.wrong(missed(), page), [
            "Documentation/coverage.md:3: there are no such lines in lock/a.rs"])

    def test_several_lines(self):
        page = PAGE.replace("return Err(EINVAL);", "    first();\n    return Err(EINVAL);")
        page = page.replace(": look", ": other")
        self.assertEqual(self.wrong(missed(8, 9), page), [])
        self.assertEqual(self.wrong(missed(8), page), [
            "Documentation/coverage.md:3: lock/a.rs:9 is reached"])

    def test_a_line_that_some_runs_reach(self):
        page = PAGE.replace("return Err(EINVAL);", "?     return Err(EINVAL);")
        self.assertEqual(self.wrong(missed(3), page), [])
        self.assertEqual(self.wrong(missed(), page), [])

    def test_without_a_function_a_line_is_listed_wherever_it_is(self):
        page = PAGE.replace(": look", "")
        self.assertEqual(self.wrong(missed(3, 9), page), [])
        self.assertEqual(self.wrong(missed(3), page), [
            "Documentation/coverage.md:3: lock/a.rs:9 is reached"])


class Lines(unittest.TestCase):
    def test_lcov(self):
        text = (f"SF:{coverage.CLONE}/lock/mod.rs\nFN:1,x\nDA:5,0\nDA:6,2\nLF:2\nend_of_record\n"
                "SF:/usr/src/rust/kernel/init.rs\nDA:5,1\nend_of_record\n"
                f"SF:{coverage.CLONE}/device.rs\nDA:1,1\nend_of_record\n")
        self.assertEqual(coverage.read_lcov(text),
                         {"lock/mod.rs": {5: 0, 6: 2}, "device.rs": {1: 1}})

    def test_the_lines_of_something_else(self):
        with self.assertRaises(ValueError):
            coverage.of_module("SF:/usr/src/rust/kernel/init.rs\nDA:5,1\nend_of_record\n")

    def test_kunit_tests_do_not_count(self):
        lines = ["fn f() {", "}", "#[kunit_tests(x)]", "mod tests {", "    fn t() {", "    }", "}",
                 "fn g() {", "}"]
        counts = {number: 1 for number in range(1, len(lines) + 1)}
        self.assertEqual(list(coverage.only_code(lines, counts)), [1, 2, 8, 9])

    def test_blank_lines_and_comments_do_not_count(self):
        lines = ["fn f() {", "", "    // Why.", "    g() // Why.", "}"]
        counts = {number: 1 for number in range(1, len(lines) + 1)}
        self.assertEqual(list(coverage.only_code(lines, counts)), [1, 4, 5])

    def test_sums(self):
        counts = {"a.rs": {1: 5, 2: 0, 3: 1}, "b.rs": {}, "c.rs": {9: 0}}
        self.assertEqual(coverage.sums(counts), {"a.rs": (3, 2), "c.rs": (1, 0), "all": (4, 2)})

    def test_all_but_one_is_not_100_percent(self):
        self.assertEqual(coverage.percent(1000, 1000), "100.0 %")
        self.assertEqual(coverage.percent(5000, 4999), "99.9 %")


class Profile(unittest.TestCase):
    """Does LLVM understand the profiles?"""

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)

    def save(self, counters, data_at=0xffffffffc0202000, counters_at=0xffffffffc0200000):
        """What the VM saves of a module with a function `f` that has such counters."""
        name = int.from_bytes(hashlib.md5(b"f").digest()[:8], "little")
        data = struct.pack("<QQQQQQIHHHxxI", name, 99, (counters_at - data_at) % 2**64, 0, 0, 0,
                           len(counters), 0, 0, 0, 0)
        for section, at, contents in (
                (coverage.DATA, data_at, data),
                (coverage.COUNTERS, counters_at, struct.pack(f"<{len(counters)}Q", *counters)),
                (coverage.NAMES, 0xffffffffc0300000, b"\x01\x00f")):
            (self.home / section).write_bytes(contents)
            (self.home / f"{section}.address").write_text(f"{at:#x}\n")

    def show(self):
        profile = self.home / "profraw"
        profile.write_bytes(coverage.raw_profile(self.home))
        return subprocess.run(["llvm-profdata", "show", "--counts", "--all-functions", profile],
                              check=True, text=True, stdout=subprocess.PIPE).stdout

    def test_counters(self):
        self.save([3, 0, 5])
        self.assertIn("  f:\n    Hash: 0x0000000000000063\n    Counters: 3\n", self.show())
        self.assertIn("Block counts: [0, 5]\n", self.show())

    def test_counters_behind_what_they_count(self):
        self.save([4, 8], counters_at=0xffffffffc0203000)
        self.assertIn("Block counts: [8]\n", self.show())

    def test_something_else(self):
        self.save([1])
        (self.home / coverage.DATA).write_bytes(b"x")
        with self.assertRaises(ValueError):
            coverage.raw_profile(self.home)

    def test_nothing(self):
        self.save([1])
        (self.home / coverage.DATA).write_bytes(b"")
        with self.assertRaises(ValueError):
            coverage.raw_profile(self.home)


if __name__ == "__main__":
    unittest.main()
