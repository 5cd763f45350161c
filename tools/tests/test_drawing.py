# SPDX-License-Identifier: GPL-2.0
"""The drawings in the documentation are well-formed, and what does not fit is an error."""

import pathlib
import sys
import unittest
import xml.etree.ElementTree

CLONE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CLONE / "tools/lib"))
# pylint: disable=wrong-import-position
from drawing import Misfit, svg  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
BOXES = """\
kind = "boxes"
title = "two < boxes"
pitch = [200, 100]
size = [100, 40]
box = [{ id = "a", at = [0, 0], text = ["one & two"] }, { id = "b", at = [1, 0], text = ["b"] }]
arrow = [{ from = "a", to = "b", text = ["then"] }]
"""
TIMELINE = """\
kind = "timeline"
title = "t"
unit = 20
width = 100
gap = 80
lanes = ["left", "right"]
step = [{ lane = 1, from = 1, to = 3, style = "write", text = ["held"] }]
event = [{ lane = 1, at = 2, text = "event" }]
"""


def drawn(source):
    return xml.etree.ElementTree.fromstring(svg(source, "x.toml"))


class Drawing(unittest.TestCase):
    """From a text to an SVG."""

    def words(self, root):
        return [text.text for text in root.iter(f"{SVG}text")]

    def refused(self, source, why):
        with self.assertRaisesRegex(Misfit, why):
            svg(source, "x.toml")

    def test_an_arrow_goes_from_border_to_border(self):
        root = drawn(BOXES)
        self.assertEqual(self.words(root), ["one & two", "b", "then"])
        self.assertEqual(root.find(f"{SVG}title").text, "two < boxes")
        # The first path is the tip.
        self.assertEqual(list(root.iter(f"{SVG}path"))[-1].get("d"), "M120 40 220 40")

    def test_everything_is_inside(self):
        for source in (BOXES, TIMELINE):
            root = drawn(source)
            width, height = float(root.get("width")), float(root.get("height"))
            for box in list(root.iter(f"{SVG}rect"))[1:]:
                x, y, w, h = (float(box.get(name)) for name in ("x", "y", "width", "height"))
                self.assertTrue(0 < x < x + w < width and 0 < y < y + h < height, source)

    def test_time_runs_downwards(self):
        step = list(drawn(TIMELINE).iter(f"{SVG}rect"))[1]
        self.assertEqual((step.get("x"), step.get("height")), ("200", "40"))
        self.assertEqual(self.words(drawn(TIMELINE)), ["left", "right", "held", "event"])

    def test_what_does_not_fit_is_refused(self):
        self.refused(BOXES.replace("one & two", "much longer than the box"), "does not fit into")
        self.refused(BOXES.replace('"one & two"', '"1", "2", "3"'), "3 lines do not fit")
        self.refused(BOXES.replace('"then"', '"more than there is room for"'), "does not fit into")
        self.refused(TIMELINE.replace("event\" }", "longer than the gap\" }"), "does not fit into")

    def test_what_is_missing_is_named(self):
        self.refused(BOXES.replace('to = "b"', 'to = "c"'), "no box 'c'")
        self.refused(BOXES.replace("pitch", "pich"), "there is no 'pitch'")
        self.refused(TIMELINE.replace("write", "wrong"), "no style 'wrong'")
        self.refused("kind =", "Invalid")

    def test_boxes_that_do_not_face_each_other_have_no_arrow(self):
        self.refused(BOXES.replace("at = [1, 0]", "at = [1, 1]"), "do not face each other")

    def test_the_drawings_can_be_made(self):
        sources = sorted(CLONE.glob("Documentation/drawings/*.toml"))
        self.assertGreater(len(sources), 3)
        for source in sources:
            with self.subTest(source.name):
                drawn(source.read_text())


if __name__ == "__main__":
    unittest.main()
