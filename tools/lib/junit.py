# SPDX-License-Identifier: GPL-2.0
"""Writes test results as a JUnit XML file, which is what CI systems read."""

import re
from xml.etree import ElementTree

from tap import FAIL, SKIP

# What XML 1.0 cannot hold, not even escaped.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text):
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def case(parent, test, classname):
    element = ElementTree.SubElement(parent, "testcase", classname=clean(classname),
                                     name=clean(test.name), time=f"{test.seconds:.3f}")
    text = clean("\n".join(test.lines))
    if test.status == FAIL:
        message = test.reason or (test.lines or [""])[-1]
        failure = ElementTree.SubElement(element, "failure", message=clean(message))
        failure.text = text
    elif test.status == SKIP:
        ElementTree.SubElement(element, "skipped", message=clean(test.reason))
    elif text:
        ElementTree.SubElement(element, "system-out").text = text


def totals(tests):
    # One element for each test, so that a sum can be compared with what is there.
    return {"tests": str(len(tests)),
            "failures": str(sum(test.status == FAIL for test in tests)),
            "skipped": str(sum(test.status == SKIP for test in tests)),
            "time": f"{sum(test.seconds for test in tests):.3f}"}


def write(path, name, tests):
    """A file with a suite for each group of tests."""
    root = ElementTree.Element("testsuites", name=name, **totals(tests))
    for group in dict.fromkeys(test.group for test in tests):
        members = [test for test in tests if test.group == group]
        suite = ElementTree.SubElement(root, "testsuite", name=f"{name}.{group}",
                                       **totals(members))
        for test in members:
            case(suite, test, f"{name}.{group}")
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
