# SPDX-License-Identifier: GPL-2.0
"""make install puts everything where programs look for it, and make uninstall takes it away.

Installs what `tools/user-build debug` has built into a temporary DESTDIR, and looks.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

CLONE = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = ("lock", "status", "doctor", "demo", "run", "completions", "man")
EXPECTED = {
    "bin/mlockctl": 0o755,
    "include/linux/mlock_rs.h": 0o644,
    "lib/mlock_rs/libmlock_rs_preload.so": 0o644,
    "lib/modules-load.d/mlock_rs.conf": 0o644,
    "lib/udev/rules.d/60-mlock_rs.rules": 0o644,
    "share/bash-completion/completions/mlockctl": 0o644,
    "share/fish/vendor_completions.d/mlockctl.fish": 0o644,
    "share/man/man1/mlockctl.1": 0o644,
    **{f"share/man/man1/mlockctl-{command}.1": 0o644 for command in COMMANDS},
    "share/man/man4/mlock_rs.4": 0o644,
    "share/pkgconfig/mlock_rs.pc": 0o644,
    "share/zsh/site-functions/_mlockctl": 0o644,
}


def run(*command, **options):
    return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **options)


class Install(unittest.TestCase):
    """Each test has an installation of its own; it takes a few milliseconds."""

    prefix = "/usr/local"

    def setUp(self):
        home = tempfile.TemporaryDirectory(prefix="install-")
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        # A space in the name is what scripts break at.
        self.destdir = self.home / "dest dir"
        self.make("install")

    def make(self, *arguments):
        done = run("make", "-s", *arguments, "KDIR=/none", f"PREFIX={self.prefix}", "PROFILE=debug",
                   f"DESTDIR={self.destdir}", cwd=CLONE)
        self.assertEqual(done.returncode, 0, done.stderr)

    def place(self, name):
        return pathlib.Path(f"{self.destdir}{self.prefix}/{name}")

    def installed(self):
        """Name and mode of each file, whatever it is."""
        files = [path for path in self.destdir.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(self.place(""))): path.stat().st_mode & 0o7777
                for path in files}

    def test_every_file_is_in_its_place(self):
        self.assertEqual(self.installed(), EXPECTED)

    def test_uninstall_leaves_nothing(self):
        other = self.place("lib/udev/rules.d/10-other.rules")
        other.write_text("")
        module = self.destdir / f"lib/modules/{os.uname().release}/updates/mlock_rs.ko"
        module.parent.mkdir(parents=True)
        module.write_text("")
        self.make("uninstall", "INSTALL_MOD_PATH=")
        self.assertFalse(module.exists())
        self.assertEqual(list(self.installed()), ["lib/udev/rules.d/10-other.rules"])
        self.assertFalse(self.place("lib/mlock_rs").exists())

    def test_the_installed_command_finds_the_installed_library(self):
        done = run(self.place("bin/mlockctl"), "run", "--", "env")
        self.assertIn("LD_PRELOAD cannot name a file with a space", done.stderr)

        self.destdir = self.destdir.rename(self.home / "destdir")
        done = run(self.place("bin/mlockctl"), "run", "--", "env")
        library = re.search(r"^LD_PRELOAD=(.*)$", done.stdout, re.M)
        self.assertIsNotNone(library, done)
        self.assertEqual(library.group(1), str(self.place("lib/mlock_rs/libmlock_rs_preload.so")))
        self.assertNotIn("cannot be preloaded", done.stderr)

    def test_the_rule_is_for_everybody(self):
        rule = self.place("lib/udev/rules.d/60-mlock_rs.rules").read_text()
        self.assertRegex(rule, r'(?m)^KERNEL=="mlock_rs", .*MODE="0666"$')

    def test_the_module_is_loaded_at_boot(self):
        lines = self.place("lib/modules-load.d/mlock_rs.conf").read_text().splitlines()
        self.assertEqual([line for line in lines if not line.startswith("#")], ["mlock_rs"])

    def test_pkg_config_names_what_is_installed(self):
        text = self.place("share/pkgconfig/mlock_rs.pc").read_text()
        self.assertNotIn("@", text)
        values = dict(re.findall(r"^(\w+)[=:] *(.*)$", text, re.M))
        self.assertEqual(values["prefix"], self.prefix)
        workspace = (CLONE / "user/Cargo.toml").read_text()
        self.assertIn(f'version = "{values["Version"]}"', workspace)
        for name in ("preload", "Cflags"):
            path = values[name].removeprefix("-I").replace("${includedir}", values["includedir"])
            path = path.replace("${prefix}", self.prefix)
            self.assertTrue(os.path.exists(f"{self.destdir}{path}"), path)

    def test_a_program_finds_the_header(self):
        program = "#include <linux/mlock_rs.h>\nint x = MLOCK_RS_MAX_RANGES;\n"
        done = run("gcc", "-Wall", "-Werror", "-x", "c", "-c", "-o", os.devnull, "-I",
                   self.place("include"), "-", input=program)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_manual_pages_are_right(self):
        pages = sorted(self.place("share/man").glob("man*/*"))
        for page in pages:
            # What clap_mangen writes is correct but not beautiful: style is not looked at.
            done = run("mandoc", "-T", "lint", "-W", "error", page)
            self.assertEqual(done.stdout + done.stderr, "")
        text = self.place("share/man/man1/mlockctl.1").read_text()
        for command in COMMANDS:
            self.assertIn(f"mlockctl\\-{command}", text)

    def test_bash_completes(self):
        script = self.place("share/bash-completion/completions/mlockctl")
        for words, expected in ((("mlockctl", "lo"), "lock"), (("mlockctl", "lock", "--on"),
                                                                "--on-fault")):
            line = " ".join(f"'{word}'" for word in words)
            done = run("bash", "-c", f". '{script}'; COMP_WORDS=({line}); "
                       f"COMP_CWORD={len(words) - 1}; _mlockctl mlockctl '{words[-1]}' "
                       f"'{words[-2]}'; echo \"${{COMPREPLY[@]}}\"")
            self.assertEqual(done.stdout.split(), [expected], done.stderr)

    def test_without_a_build_it_says_what_to_do(self):
        done = run("make", "-s", "install", "PROFILE=none", f"DESTDIR={self.destdir}", cwd=CLONE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("run 'make user' first", done.stderr)


class InstallBelowUsr(Install):
    """As a package does it."""

    prefix = "/usr"


class ModulesInstall(unittest.TestCase):
    """What comes with the module alone."""

    def test_the_group_is_complete(self):
        with tempfile.TemporaryDirectory(prefix="install-") as home:
            environment = {**os.environ, "DESTDIR": home, "PREFIX": "/usr"}
            self.assertEqual(run(CLONE / "tools/install", "module", env=environment).returncode, 0)
            found = {path.name for path in pathlib.Path(home).rglob("*") if path.is_file()}
            self.assertEqual(found, {"60-mlock_rs.rules", "mlock_rs.conf", "mlock_rs.4"})
            shutil.rmtree(f"{home}/usr")

    def test_an_unknown_group_is_refused(self):
        done = run(CLONE / "tools/install", "everything")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("there is no group 'everything'", done.stderr)


if __name__ == "__main__":
    unittest.main()
