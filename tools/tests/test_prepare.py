#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Do lib/prepare.py and tools/kbuild refuse every tree that a module would not fit from?"""

import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import prepare  # noqa: E402
from load import load  # noqa: E402

kbuild = load("kbuild")

CONFIG = """CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"
CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.1"
CONFIG_PAHOLE_VERSION=130
CONFIG_BUILD_SALT="7.3.4+deb13-amd64"
CONFIG_RUST=y
"""
SOURCE = "".join(f"struct {name} {{ long first; int second; }} a_{name};\n"
                 for name in prepare.STRUCTURES)


class Tree(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)


class Configuration(unittest.TestCase):
    def refused(self, text, got):
        with self.assertRaisesRegex(prepare.Refused, text):
            prepare.same_configuration("7.3.4", CONFIG, got)

    def test_the_same_and_what_each_build_has_of_its_own(self):
        prepare.same_configuration("7.3.4", CONFIG, CONFIG)
        prepare.same_configuration("7.3.4", CONFIG,
                                   CONFIG.replace('SALT="7.3.4+deb13-amd64"', 'SALT=""')
                                   + "CONFIG_MODULE_SIG_ALL=y\n")

    def test_another_compiler(self):
        self.refused('CC_VERSION_TEXT is "x86_64-linux-gnu-gcc-14 .*15.* here and .*14.* there.*'
                     'Install the compilers', CONFIG.replace("14.2.0\"", "15.1.0\""))

    def test_another_rustc_comes_before_what_it_changes(self):
        got = CONFIG.replace("1.85.1", "1.95.0") + "CONFIG_A_NEW_ONE=y\n"
        self.refused("would not fit 7.3.4: CONFIG_RUSTC_VERSION_TEXT is .*1.95.0", got)

    def test_no_pahole(self):
        self.refused("CONFIG_PAHOLE_VERSION is 0 here and 130 there",
                     CONFIG.replace("=130", "=0"))

    def test_an_option_more_or_less(self):
        self.refused("CONFIG_RUST is not set here and y there", CONFIG.replace("CONFIG_RUST=y", ""))
        self.refused("CONFIG_MORE is y here and not set there", CONFIG + "CONFIG_MORE=y\n")

    def test_the_compiler_of_a_kernel(self):
        self.assertEqual(prepare.compiler(CONFIG), ["CC=x86_64-linux-gnu-gcc-14"])
        self.assertEqual(prepare.compiler("CONFIG_CC_IS_CLANG=y\n"), ["LLVM=1"])


class Layout(Tree):
    def compare(self, here, there):
        """Structures as compiled, beside those in the BTF of a kernel."""
        (self.home / "rust/helpers").mkdir(parents=True, exist_ok=True)
        for name, source in (("rust/helpers/helpers.o", here), ("kernel.o", there)):
            subprocess.run(["gcc", "-g", "-c", "-x", "c", "-", "-o", self.home / name],
                           input=source, text=True, check=True)
        subprocess.run(["pahole", f"--btf_encode_detached={self.home}/vmlinux",
                        self.home / "kernel.o"], check=True)
        prepare.same_layout("7.3.4", self.home)

    def test_the_same(self):
        self.compare(SOURCE, SOURCE)

    def test_a_member_more_another_type_another_order(self):
        for old, new in (("int second;", "int second; int third;"), ("int second", "long second"),
                         ("long first; int second;", "int second; long first;")):
            there = SOURCE[::-1].replace(old[::-1], new[::-1], 1)[::-1]
            self.assertNotEqual(SOURCE, there)
            with self.assertRaisesRegex(prepare.Refused,
                                        "would not fit 7.3.4: struct folio differs"):
                self.compare(SOURCE, there)

    def test_a_structure_that_is_not_there(self):
        with self.assertRaisesRegex(prepare.Refused, "no struct mm_struct in 7.3.4"):
            self.compare(SOURCE, SOURCE.replace("mm_struct", "other"))


class Usable(Tree):
    def setUp(self):
        super().setUp()
        self.kdir = self.home / "kernel"
        (self.kdir / "include/config").mkdir(parents=True)
        (self.kdir / "Module.symvers").touch()
        self.release("7.3.4+deb13-amd64")
        self.config(*kbuild.NEEDED)

    def release(self, text):
        (self.kdir / "include/config/kernel.release").write_text(text + "\n")

    def config(self, *options):
        (self.kdir / "include/config/auto.conf").write_text(
            "".join(f"CONFIG_{name}=y\n" for name in options))

    def refused(self, text, kdir=None):
        with self.assertRaisesRegex(kbuild.Refused, text):
            kbuild.usable(kdir or self.kdir)

    def test_a_tree_that_has_all(self):
        (self.kdir / "rust").mkdir()
        (self.kdir / "rust/libkernel.rmeta").touch()
        self.assertEqual(kbuild.usable(self.kdir), self.kdir)

    def test_no_tree(self):
        self.refused("no kernel tree at .*; name one with KDIR=", self.home / "none")

    def test_a_tree_that_is_not_built(self):
        (self.kdir / "Module.symvers").unlink()
        self.refused("is not built .*: run 'make' there first")

    def test_an_older_kernel(self):
        for release in ("7.2.12+deb13-amd64", "6.12.117+deb13-amd64"):
            self.release(release)
            self.refused("mlock_rs needs 7.3 or later .*apt install")

    def test_each_option(self):
        for option in kbuild.NEEDED:
            self.config(*(name for name in kbuild.NEEDED if name != option))
            self.refused(f"built without CONFIG_{option}=y, which is needed")

    def packages(self, **versions):
        return mock.patch.object(kbuild, "installed", lambda name: versions.get(
            "headers" if "headers" in name else "source", ""))

    def test_headers_of_no_package(self):
        with self.packages():
            self.refused("no metadata of the kernel's Rust crates; name a tree")

    def test_headers_without_their_source(self):
        with mock.patch.object(kbuild.shutil, "which", lambda name: name):
            with self.packages(headers="7.3.4-1"):
                self.refused("linux-source-7.3 is not installed: apt install "
                             "linux-source-7.3=7.3.4-1.*would not fit")
            with self.packages(headers="7.3.4-1", source="7.3.5-1"):
                self.refused("linux-source-7.3 is 7.3.5-1: apt install linux-source-7.3=7.3.4-1")

    def test_no_configuration(self):
        with mock.patch.object(kbuild.shutil, "which", lambda name: name), \
                self.packages(headers="1", source="1"), \
                mock.patch.object(kbuild, "CONFIGS", (str(self.home) + "/{}",)):
            self.refused("the configuration of 7.3.4.deb13-amd64 is not there")


if __name__ == "__main__":
    unittest.main()
