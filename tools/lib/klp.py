# SPDX-License-Identifier: GPL-2.0
"""Lets a module call functions that the kernel does not export: makes livepatch relocations.

symvers() is what modpost has to believe: the names in kernel/symbols that Module.symvers of a kernel
lacks. link() moves the relocations against them to sections that the kernel's loader resolves by
kallsyms. The format is that of Documentation/livepatch/module-elf-format.rst in the kernel. The module
is edited in place, after it is linked, because a linker takes such sections for its own, and before
it is signed.
"""

import copy
import io
import os
import pathlib
import re

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

LIST = pathlib.Path(__file__).resolve().parents[2] / "kernel/symbols"
PREFIX = ".klp.sym.vmlinux."
SHF_INFO_LINK_ALLOC, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH = 0x42, 0x00100000, 0xff20
# A call, or a jump in the place of one, by processor. Nothing else: the address of such a function
# must not be taken, because a call through a pointer stops a machine with IBT.
CALLS = {"EM_X86_64": {4: "R_X86_64_PLT32"},
         "EM_AARCH64": {282: "R_AARCH64_JUMP26", 283: "R_AARCH64_CALL26"}}


class Refused(Exception):
    """What is wrong, and what to do."""


def listed():
    """The names in kernel/symbols."""
    lines = [line for line in LIST.read_text().splitlines() if line and line[0] != "#"]
    names = [found[1] for line in lines if (found := re.match(r"(\w+)\s+# \S", line))]
    if len(names) != len(lines):
        raise Refused(f"{LIST.name}: each line is a name and '# reason'")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise Refused(f"{LIST.name} has {', '.join(sorted(twice))} twice")
    return names


def unexported(kdir):
    """Those of them that this kernel does not export."""
    try:
        symvers = (kdir / "Module.symvers").read_text()
    except OSError as error:
        raise Refused(f"{kdir} has no Module.symvers: build the kernel first") from error
    config = kdir / "include/config/auto.conf"
    if config.exists() and "CONFIG_LIVEPATCH=y\n" not in config.read_text():
        raise Refused(f"{kdir} is built without CONFIG_LIVEPATCH=y: set it and build the kernel")
    exported = set(re.findall(r"^\S+\t(\S+)", symvers, re.M))
    return [name for name in listed() if name not in exported]


def check_kernel(kdir, names):
    """Does the kernel have each of these, and once? Debian's System.map is a stub: there, only the
    loader can tell."""
    try:
        there = re.findall(r"^\w+ [tTdDbBrRwW] (\S+)$", (kdir / "System.map").read_text(), re.M)
    except OSError:
        return
    for name in names if there else []:
        if there.count(name) != 1:
            how = "has no" if name not in there else f"has {there.count(name)} times"
            raise Refused(f"the kernel in {kdir} {how} symbol {name}, so the module could not be "
                          "loaded: it needs another version of mlock_rs")


def symvers(kdir):
    """A Module.symvers for modpost."""
    return "".join(f"0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"
                   for name in unexported(kdir))


class Module:
    """An ELF file that is edited by appending: what was there keeps its place."""

    def __init__(self, data):
        self.data = bytearray(data)
        elf = ELFFile(io.BytesIO(data))
        self.structs, self.header = elf.structs, elf.header
        self.sections = [section.header for section in elf.iter_sections()]
        self.names = [section.name for section in elf.iter_sections()]
        if self.header.e_type != "ET_REL" or self.header.e_machine not in CALLS:
            raise Refused(f"not a module for {' or '.join(CALLS)}")

    def is_linked(self):
        """Whether it has such relocations."""
        return any(name.startswith(".klp.") for name in self.names)

    def is_livepatch(self):
        """Whether the loader looks for such relocations."""
        return ".modinfo" in self.names and b"livepatch=Y\0" in self.content(".modinfo")

    def content(self, section):
        header = self.sections[self.names.index(section)]
        return bytes(self.data[header.sh_offset:header.sh_offset + header.sh_size])

    def append(self, section, content):
        """Give a section another content, at the end of the file."""
        self.data += bytes(-len(self.data) % max(section.sh_addralign, 1))
        section.sh_offset, section.sh_size = len(self.data), len(content)
        self.data += content

    def entries(self, section, struct):
        """Offset in the file and parsed form of each entry of a table."""
        for at in range(section.sh_offset, section.sh_offset + section.sh_size, struct.sizeof()):
            yield at, struct.parse(bytes(self.data[at:at + struct.sizeof()]))

    def write(self, at, struct, value):
        self.data[at:at + struct.sizeof()] = struct.build(value)

    def rename(self, wanted):
        """Name the undefined symbols as the loader wants them. Returns their numbers."""
        symtab = self.sections[self.names.index(".symtab")]
        strtab = self.sections[symtab.sh_link]
        strings = bytearray(self.content(self.names[symtab.sh_link]))
        found = {}
        for number, (at, symbol) in enumerate(self.entries(symtab, self.structs.Elf_Sym)):
            name = strings[symbol.st_name:strings.index(0, symbol.st_name)].decode()
            if name in wanted and symbol.st_shndx == "SHN_UNDEF":
                symbol.st_name, symbol.st_shndx = len(strings), SHN_LIVEPATCH
                strings += f"{PREFIX}{name},0".encode() + b"\0"
                self.write(at, self.structs.Elf_Sym, symbol)
                found[number] = name
        if found and not self.is_livepatch():
            raise Refused("the module does not say MODULE_INFO(livepatch, \"Y\")")
        self.append(strtab, strings)
        return found

    def move(self, symbols):
        """Move the relocations against these symbols into sections of their own. In their places stay
        some that do nothing: strip(1) would take the new section for the old one if that were
        empty."""
        calls, struct = CALLS[self.header.e_machine], self.structs.Elf_Rela
        names = bytearray(self.content(self.names[self.header.e_shstrndx]))
        for section in [one for one in self.sections if one.sh_type == "SHT_RELA"]:
            moved, target = b"", self.names[section.sh_info]
            for at, entry in self.entries(section, struct):
                if entry.r_info_sym not in symbols:
                    continue
                if entry.r_info_type not in calls:
                    raise Refused(f"{target}+{entry.r_offset:#x} refers to "
                                  f"{symbols[entry.r_info_sym]} with a relocation of type "
                                  f"{entry.r_info_type}; only a call can be resolved")
                moved += bytes(self.data[at:at + struct.sizeof()])
                self.data[at:at + struct.sizeof()] = bytes(struct.sizeof())
            if not moved:
                continue
            new = copy.copy(section)
            new.sh_name, new.sh_flags = len(names), SHF_INFO_LINK_ALLOC | SHF_RELA_LIVEPATCH
            names += f".klp.rela.vmlinux.{target}".encode() + b"\0"
            self.append(new, moved)
            self.sections.append(new)
        self.append(self.sections[self.header.e_shstrndx], names)

    def finish(self):
        """The file, with a new table of sections."""
        self.data += bytes(-len(self.data) % 8)
        self.header.e_shoff, self.header.e_shnum = len(self.data), len(self.sections)
        for section in self.sections:
            self.data += self.structs.Elf_Shdr.build(section)
        self.write(0, self.structs.Elf_Ehdr, self.header)
        return bytes(self.data)


def link(kdir, path):
    """Edit a module, unless that is done or it needs none."""
    names = unexported(kdir)
    try:
        module = Module(path.read_bytes())
        if module.is_linked():
            return
        symbols = module.rename(set(names))
        if not symbols and not module.is_livepatch():
            return
        check_kernel(kdir, sorted(symbols.values()))
        module.move(symbols)
        made = module.finish()
    except (ELFError, ConstructError) as error:
        raise Refused(f"{path} is no ELF file: {error}") from error
    new = path.with_name(path.name + ".new")
    new.write_bytes(made)
    os.replace(new, path)
