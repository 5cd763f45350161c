# SPDX-License-Identifier: GPL-2.0
"""Makes a kernel tree that a Rust module can be built against, for a kernel of Debian's.

Its linux-headers lack what such a module needs: the metadata of the kernel's Rust crates, and mm/*.h.
`make prepare modules_prepare` makes them, in the tree of the package linux-source, with the kernel's
own configuration and compilers. Nothing would notice at load time if that tree were another one than
the kernel's: there are no CRCs. So a tree that differs is refused, with what differs.
"""

import os
import pathlib
import re
import subprocess
import tempfile

# What needs not be unpacked: the code of drivers and of other processors, in three quarters of the
# bytes. Their Kconfig and Makefiles stay.
UNWANTED = [f"{directory}/*.{suffix}"
            for directory in ("drivers/gpu", "drivers/net/*", "drivers/media", "drivers/scsi",
                              "drivers/staging", "drivers/infiniband", "drivers/accel", "sound",
                              "arch/arm", "arch/mips", "arch/powerpc", "arch/s390", "arch/sparc",
                              "tools/perf", "Documentation/devicetree",
                              "Documentation/translations")
            for suffix in ("c", "h", "S", "dts", "dtsi", "yaml", "json", "rst")]
# Nor, if no kernel is to be built.
NO_KERNEL = ["drivers/*.c", "net/*.c", "fs/*.c", "crypto/*.c", "Documentation/*/*",
             "tools/testing/*", "arch/arm64/*.dts*"]
# What a kernel's package has otherwise than one that is built from its source.
OWN = re.compile(r"CONFIG_(?:BUILD_SALT|MODULE_SIG_ALL|MODULE_SIG_KEY|SYSTEM_TRUSTED_KEYS)\b")
# What the module and the kernel look into together.
STRUCTURES = ("mm_struct", "vm_area_struct", "task_struct", "folio")


class Refused(Exception):
    """What is wrong, and what to do."""


def options(text):
    """The options in a .config. One that is not set has no line in it."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.M))


def compiler(config):
    """The words for make that choose the compiler a kernel was built with."""
    found = options(config)
    if "CONFIG_CC_IS_CLANG" in found:
        return ["LLVM=1"]
    name = found.get("CONFIG_CC_VERSION_TEXT", '"gcc').strip('"').split()[0]
    return [f"CC={name}"]


def environment():
    """Without the caller's variables for make: those are about another build."""
    unwanted = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "KBUILD_OUTPUT", "O", "M", "MO",
                "KDIR", "ARCH", "CROSS_COMPILE", "KERNELRELEASE")
    return {key: value for key, value in os.environ.items() if key not in unwanted}


def unpack(tarball, tree, whole):
    """Unpack the source, as far as it is needed."""
    tree.mkdir(parents=True)
    top = pathlib.Path(tarball).name.removesuffix(".tar.xz")
    exclude = [f"--exclude={top}/{pattern}"
               for pattern in UNWANTED + ([] if whole else NO_KERNEL)]
    done = subprocess.run(["tar", "-xJf", tarball, "-C", tree, "--strip-components=1", "--anchored",
                           *exclude],
                          check=False, env={**os.environ, "XZ_OPT": "-T0"})
    if done.returncode:
        raise Refused(f"cannot unpack {tarball}; is the disk full?")


def run(words, log):
    """A step of the build, whose output goes to the log."""
    with open(log, "a") as out:
        done = subprocess.run(words, stdout=out, stderr=out, env=environment(), check=False)
    if done.returncode:
        lines = pathlib.Path(log).read_text(errors="replace").splitlines()
        why = next((line for line in lines if re.search(r"\berror\b|can't|\*\*\*", line)), lines[-1])
        raise Refused(f"'make prepare' failed: {why.strip()}; the whole log is {log}")


def prepare(tree, out, release, config, headers, log):
    """Make `out` a tree for the modules of the kernel `release`. `config` is its configuration,
    `headers` the directory of its linux-headers, which has Module.symvers and its BTF."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = config.read_text()
    (out / ".config").write_text(wanted)
    for name in ("Module.symvers", "vmlinux"):
        (out / name).write_bytes((headers / name).read_bytes())
    make = ["make", "-s", "-C", str(tree), f"O={out}", f"KERNELRELEASE={release}",
            *compiler(wanted), f"-j{os.cpu_count()}"]
    run([*make, "olddefconfig"], log)
    same_configuration(release, wanted, (out / ".config").read_text())
    run([*make, "prepare", "modules_prepare"], log)
    same_layout(release, out)


def same_configuration(release, wanted, got):
    """Other compilers are another configuration, too."""
    wanted, got = options(wanted), options(got)
    differ = [f"{name} is {got.get(name, 'not set')} here and {wanted.get(name, 'not set')} there"
              for name in sorted(wanted.keys() | got.keys())
              if wanted.get(name) != got.get(name) and not OWN.match(name)]
    # The compilers are why the others differ.
    differ.sort(key=lambda text: "VERSION" not in text)
    if differ:
        raise Refused(f"a module built here would not fit {release}: {'; '.join(differ[:3])}"
                      + (f"; and {len(differ) - 3} more" if differ[3:] else "")
                      + ". Install the compilers of the kernel (gcc, rustc, bindgen, pahole)")


def layout(btf):
    """The members of the structures, with their offsets and sizes, as pahole tells them."""
    said = subprocess.run(["pahole", "-C", ",".join(STRUCTURES), btf], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = re.findall(r"^struct (\w+) \{\n(.*?)^\}", said, re.M | re.S)
    return {name: body.splitlines() for name, body in found}


def same_layout(release, out):
    """Are the structures in what was just compiled those of the kernel?"""
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        made = f"{scratch}/btf"
        subprocess.run(["pahole", f"--btf_encode_detached={made}", out / "rust/helpers/helpers.o"],
                       check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        here, there = layout(made), layout(out / "vmlinux")
    for name in STRUCTURES:
        if name not in here or name not in there:
            raise Refused(f"pahole finds no struct {name} in "
                          f"{'what is built' if name in there else release}, so nothing tells "
                          "whether a module built here would fit")
        differ = [pair for pair in zip(here[name], there[name]) if pair[0] != pair[1]]
        if differ or len(here[name]) != len(there[name]):
            lines = " and there: ".join(" ".join(line.split()) for line in differ[0])
            raise Refused(f"a module built here would not fit {release}: struct {name} differs, "
                          f"here: {lines}")
