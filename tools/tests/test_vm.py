#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What tools/vm does with a guest that stands still, with a shell instead of QEMU."""

import contextlib
import io
import pathlib
import sys
import tempfile
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from load import load  # noqa: E402  pylint: disable=wrong-import-position

vm = load("vm")


class Boots(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = pathlib.Path(directory.name)
        self.log = self.home / "log"
        for name, value in (("BOOT_SECONDS", 0.3), ("TICK", 0.05)):
            self.addCleanup(setattr, vm, name, getattr(vm, name))
            setattr(vm, name, value)

    def watch(self, script, timeout=5):
        """Each boot runs the script, in which $n is how many there have been before."""
        one = object.__new__(vm.VM)
        one.log, one.is_up = self.log, False
        one.options = types.SimpleNamespace(timeout=timeout)
        begin = f"cd {self.home}; echo >>boots; n=$(($(wc -l <boots) - 1)); "
        # What the guest writes is QEMU's standard output.
        out = io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            status = one.watch(["sh", "-c", begin + script], None)
        return status, one.is_up, out.buffer.getvalue().decode()

    def boots(self):
        return len((self.home / "boots").read_text().splitlines())

    def test_a_guest_that_comes_up_has_all_of_its_time(self):
        said = self.watch("echo vm: guest is up >log; sleep 0.6; echo well; exit 7")
        self.assertEqual(said, (7, True, "well\n"))
        self.assertEqual(self.boots(), 1)

    def test_a_guest_that_stands_still_is_booted_anew(self):
        said = self.watch("echo $n >log; [ $n != 0 ] || exec sleep 60; "
                          "echo vm: guest is up >>log; echo well")
        self.assertEqual(said, (0, True, "well\n"))
        self.assertEqual(self.boots(), 2)
        self.assertEqual((self.home / "log.no-boot").read_text(), "0\n")

    def test_not_for_ever(self):
        said = self.watch("echo $n >log; exec sleep 60")
        self.assertEqual(said, (None, False, ""))
        self.assertEqual(self.boots(), vm.BOOTS)

    def test_a_guest_that_ends_before_it_is_up_has_failed(self):
        self.assertEqual(self.watch("echo panic >log; exit 3"), (3, False, ""))
        self.assertEqual(self.boots(), 1)

    def test_a_command_that_takes_too_long_is_not_repeated(self):
        said = self.watch("echo vm: guest is up >log; exec sleep 60", timeout=0.4)
        self.assertEqual(said, (None, True, ""))
        self.assertEqual(self.boots(), 1)


if __name__ == "__main__":
    unittest.main()
