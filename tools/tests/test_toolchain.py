#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which kernel does tools/toolchain take, when Debian no longer has the source of one or of all?"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from common import CLONE  # noqa: E402
from source import VERSIONS  # noqa: E402

# Stands for Debian. It has what is named in $HAS, and makes a tarball of it; "down" is no network.
MMDEBSTRAP = """#!/bin/bash
case "$HAS " in down*) echo "E: Could not resolve 'deb.debian.org'" >&2; exit 1 ;; esac
for option; do
	case $option in --include=linux-source-*)
		version=${option#--include=linux-source-}
		case " $HAS " in *" $version "*) ;; *)
			echo "E: Unable to locate package linux-source-$version" >&2
			exit 1
		esac
		dir=$(mktemp -d)
		mkdir -p $dir/usr/src
		echo "$version" >$dir/usr/src/linux-source-$version.tar.xz
		tar -C $dir -c ./usr
		rm -r $dir
		exit
	esac
done
tar -c -T /dev/null
"""
COMMANDS = {
    "mmdebstrap": MMDEBSTRAP,
    # The namespace that keeps its mounts, and the root, are not needed.
    "unshare": '#!/bin/sh\nshift\nexec "$@"\n',
    "bwrap": '#!/bin/sh\necho "KERNEL=$KERNEL"\n',
    "newuidmap": "#!/bin/sh\n",
    "sleep": "#!/bin/sh\n",
}
FIRST, SECOND = VERSIONS[:2]
INSTEAD = f"Debian has no linux-source-{FIRST} any more; taking {SECOND} instead"


class Toolchain(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.cache = self.home / "cache"
        (self.home / "bin").mkdir()
        for name, text in COMMANDS.items():
            (self.home / "bin" / name).write_text(text)
            (self.home / "bin" / name).chmod(0o755)

    def run_with(self, has, *arguments, **environment):
        """What tools/toolchain prints in either way, with what Debian has; its status is kept."""
        path = f"{self.home}/bin:{os.environ['PATH']}"
        known = {k: v for k, v in os.environ.items()
                 if k not in ("KERNEL", "KERNEL_SRC", "MLOCK_RS_INSIDE")}
        done = subprocess.run(
            [CLONE / "tools/toolchain", *(arguments or ("run", "true"))], text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**known, "PATH": path, "HAS": has, "MLOCK_RS_CACHE": str(self.cache),
                 "MLOCK_RS_TOOLCHAIN": "root", **environment})
        self.status = done.returncode
        return done.stdout

    def sources(self):
        return sorted(path.name for path in self.cache.glob("linux-source-*"))

    def test_the_first_version_is_the_default(self):
        said = self.run_with(" ".join(VERSIONS))
        self.assertIn(f"\nKERNEL={FIRST}\n", said)
        self.assertEqual(self.sources(), [f"linux-source-{FIRST}.tar.xz"])
        self.assertNotIn("instead", said)

    def test_the_next_one_if_it_is_gone_and_one_line_says_so(self):
        said = self.run_with(SECOND)
        self.assertIn(f"\nKERNEL={SECOND}\n", said)
        self.assertEqual(said.count(INSTEAD), 1, said)
        self.assertEqual(self.sources(), [f"linux-source-{SECOND}.tar.xz"])

        # It is not asked for in each run, but each run says so.
        said = self.run_with("down")
        self.assertEqual(said, f"toolchain: {INSTEAD}\nKERNEL={SECOND}\n")

    def test_it_is_asked_for_again_after_a_day(self):
        self.run_with(SECOND)
        day = time.time() - 25 * 3600
        os.utime(self.cache / f"no-linux-source-{FIRST}", (day, day))
        self.assertIn(f"\nKERNEL={FIRST}\n", self.run_with(" ".join(VERSIONS)))

    def test_a_source_that_is_there_stays_in_use(self):
        self.run_with(" ".join(VERSIONS))
        self.assertEqual(self.run_with("down"), f"KERNEL={FIRST}\n")

    def test_a_version_that_was_asked_for_is_not_replaced(self):
        said = self.run_with(SECOND, KERNEL=FIRST)
        self.assertIn(f"Debian has no linux-source-{FIRST}; name a kernel tree", said)
        self.assertNotEqual(self.status, 0)
        self.assertIn(f"\nKERNEL={SECOND}\n", self.run_with(SECOND, KERNEL=SECOND))

    def test_none_is_left(self):
        self.assertIn("Debian has no linux-source for any of", self.run_with(""))
        self.assertNotEqual(self.status, 0)
        # A root for something else does not need one.
        self.run_with("", "root", "programs")
        self.assertEqual(self.status, 0)

    def test_no_network_is_not_taken_for_a_version_that_is_gone(self):
        said = self.run_with("down")
        self.assertIn("no network", said)
        self.assertNotEqual(self.status, 0)
        self.assertIn(f"\nKERNEL={FIRST}\n", self.run_with(" ".join(VERSIONS)))

    def test_the_sources_of_all_versions(self):
        self.run_with(" ".join(VERSIONS), "sources")
        self.assertEqual(self.sources(), sorted(f"linux-source-{v}.tar.xz" for v in VERSIONS))

    def test_the_sources_that_there_are(self):
        self.run_with(FIRST, "sources")
        self.assertEqual((self.status, self.sources()), (0, [f"linux-source-{FIRST}.tar.xz"]))
        self.run_with("down", "sources")
        self.assertEqual(self.status, 0)


if __name__ == "__main__":
    unittest.main()
