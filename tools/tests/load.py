# SPDX-License-Identifier: GPL-2.0
"""A tool as a module, for its tests: its file has no ending that `import` knows."""

import importlib.machinery
import importlib.util
import pathlib

TOOLS = pathlib.Path(__file__).resolve().parents[1]


def load(name):
    """tools/NAME."""
    loader = importlib.machinery.SourceFileLoader(name, str(TOOLS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
