#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/klp.py make the relocations that the kernel's loader wants, and refuse all else?"""

import io
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
import klp  # noqa: E402
from common import CLONE  # noqa: E402

CALLS = """
int hidden(int); int second(void); int exported(void); int mine(void) { return 3; }
int first(int a) { return hidden(a) + exported() + mine(); }
__attribute__((section(".init.text"))) int begin(void) { return hidden(1) + second(); }
"""
INFO = 'const char info[] __attribute__((section(".modinfo"), used)) = "livepatch=Y";'
SYMVERS = "0x00000000\texported\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"
MAP = "ffffffff81000000 T hidden\nffffffff81000010 t second\n"


class Links(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        (self.home / "include/config").mkdir(parents=True)
        self.kernel()
        self.list = self.home / "symbols"
        self.lists("hidden # why\nsecond # why\nexported # why\n")
        patch = mock.patch.object(klp, "LIST", self.list)
        patch.start()
        self.addCleanup(patch.stop)

    def kernel(self, symvers=SYMVERS, config="CONFIG_LIVEPATCH=y\n", system_map=MAP):
        (self.home / "Module.symvers").write_text(symvers)
        (self.home / "include/config/auto.conf").write_text(config)
        (self.home / "System.map").write_text(system_map)

    def lists(self, text):
        self.list.write_text("# A comment\n\n" + text)

    def compile(self, source=CALLS + INFO, *options):
        """An object like a module: relocations for calls as the kernel's compiler makes them."""
        path = self.home / "module.ko"
        subprocess.run(["gcc", "-O2", "-fno-pic", "-mcmodel=kernel", "-fno-inline", "-c", "-o",
                        path, "-x", "c", "-", *options], input=source, text=True, check=True)
        return path

    def link(self, source=CALLS + INFO):
        path = self.compile(source)
        klp.link(self.home, path)
        return ELFFile(io.BytesIO(path.read_bytes()))

    def refused(self, text, source=CALLS + INFO):
        with self.assertRaisesRegex(klp.Refused, text):
            self.link(source)

    MOVED = {".text": [".klp.sym.vmlinux.hidden,0"],
             ".init.text": [".klp.sym.vmlinux.hidden,0", ".klp.sym.vmlinux.second,0"]}

    def moved(self, elf):
        """The symbols that relocations for the loader are against, by section."""
        symbols, found = elf.get_section_by_name(".symtab"), {}
        for section in elf.iter_sections():
            if section.name.startswith(".klp.rela.vmlinux."):
                target = elf.get_section(section["sh_info"])
                self.assertEqual(section.name, f".klp.rela.vmlinux.{target.name}")
                self.assertEqual(elf.get_section(section["sh_link"]).name, ".symtab")
                found[target.name] = sorted(symbols.get_symbol(r["r_info_sym"]).name
                                            for r in section.iter_relocations())
        return found

    def test_relocations_move_and_all_else_stays(self):
        before = ELFFile(io.BytesIO(self.compile().read_bytes()))
        elf = self.link()
        symbols = elf.get_section_by_name(".symtab")
        self.assertEqual(self.moved(elf), self.MOVED)
        for section in elf.iter_sections():
            if section.name.startswith(".klp.rela."):
                self.assertEqual(section["sh_flags"], 0x00100042)
        for symbol in symbols.iter_symbols():
            if symbol.name.startswith(".klp.sym."):
                self.assertEqual(symbol["st_shndx"], 0xff20)
        # What the kernel exports is linked as usual.
        kept = [symbols.get_symbol(r["r_info_sym"]).name
                for r in elf.get_section_by_name(".rela.text").iter_relocations()]
        self.assertIn("exported", kept)
        self.assertFalse([name for name in kept if "hidden" in name])
        for name in (".text", ".init.text", ".modinfo"):
            self.assertEqual(elf.get_section_by_name(name).data(),
                             before.get_section_by_name(name).data())

    def test_binutils_take_the_result(self):
        self.link()
        for command in (["readelf", "-aW"], ["objcopy", "--strip-debug"], ["strip", "-d"]):
            done = subprocess.run([*command, self.home / "module.ko"], text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        # strip numbers the symbols anew.
        self.assertEqual(self.moved(ELFFile(io.BytesIO((self.home / "module.ko").read_bytes()))),
                         self.MOVED)

    def test_twice_is_once(self):
        self.link()
        path = self.home / "module.ko"
        made = path.read_bytes()
        klp.link(self.home, path)
        self.assertEqual(path.read_bytes(), made)

    def test_a_module_that_needs_none_stays_as_it_is(self):
        path = self.compile("int exported(void); int f(void) { return exported(); }")
        made = path.read_bytes()
        klp.link(self.home, path)
        self.assertEqual(path.read_bytes(), made)

    def test_modpost_believes_in_what_is_not_exported(self):
        self.assertEqual([line.split("\t")[1] for line in klp.symvers(self.home).splitlines()],
                         ["hidden", "second"])

    def test_an_unknown_symbol(self):
        self.kernel(system_map=MAP.replace("hidden", "renamed"))
        self.refused("the kernel in .* has no symbol hidden, .*another version of mlock_rs")

    def test_a_symbol_that_the_kernel_has_twice(self):
        self.kernel(system_map=MAP + "ffffffff81000020 t second\n")
        self.refused("has 2 times symbol second")

    def test_a_symbol_that_is_listed_twice(self):
        self.lists("hidden # why\nhidden # because\n")
        self.refused("has hidden twice")

    def test_a_symbol_without_a_reason(self):
        self.lists("hidden\n")
        self.refused("each line is a name and '# reason'")

    def test_a_symbol_that_is_not_called(self):
        # With PREEMPT_RT there are no huge pages to walk.
        self.lists("hidden # why\nsecond # why\nunused # why\n")
        symbols = self.link().get_section_by_name(".symtab")
        self.assertFalse([s.name for s in symbols.iter_symbols() if "unused" in s.name])

    def test_a_stub_of_a_system_map_says_nothing(self):
        self.kernel(system_map="ffffffffffffffff B The real System.map is in the package\n")
        self.link()

    def test_a_kernel_without_livepatch(self):
        self.kernel(config="CONFIG_MODULES=y\n")
        self.refused("without CONFIG_LIVEPATCH=y: set it and build the kernel")

    def test_a_kernel_that_is_not_built(self):
        (self.home / "Module.symvers").unlink()
        self.refused("no Module.symvers: build the kernel first")

    def test_the_address_of_a_function_is_refused(self):
        self.refused(r"refers to hidden with a relocation of type \d+; only a call",
                     CALLS + INFO + "int (*pointer)(int) = hidden;")

    def test_a_module_that_does_not_say_livepatch(self):
        self.refused("MODULE_INFO", CALLS)

    def test_what_is_no_module(self):
        path = self.home / "module.ko"
        for content in (b"", b"text", b"\x7fELF" + bytes(100)):
            path.write_bytes(content)
            with self.assertRaises(klp.Refused):
                klp.link(self.home, path)
            self.assertEqual(path.read_bytes(), content)

    def test_a_refused_module_is_as_it_was(self):
        path = self.compile(CALLS + INFO + "int (*pointer)(int) = hidden;")
        made = path.read_bytes()
        with self.assertRaises(klp.Refused):
            klp.link(self.home, path)
        self.assertEqual(path.read_bytes(), made)

    def test_the_projects_own_list(self):
        with mock.patch.object(klp, "LIST", CLONE / "kernel/symbols"):
            self.assertGreater(len(klp.listed()), 5)


if __name__ == "__main__":
    unittest.main()
