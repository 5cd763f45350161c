# SPDX-License-Identifier: GPL-2.0
"""Makes the SVG of a drawing from its text in Documentation/drawings/*.toml.

There are two kinds. "boxes" has boxes on a grid ([column, row], which may be fractions) and arrows
between them. "timeline" has a lane for each of what is compared, time running downwards: steps that
take a while, and events at one moment. Text that does not fit where it is to go is an error.
"""

import tomllib
from xml.sax.saxutils import escape

# Fill and border: who has the lock, or whose code it is.
STYLES = {"plain": ("#ffffff", "#57606a"), "user": ("#ddf4ff", "#0969da"),
          "module": ("#dafbe1", "#1a7f37"), "kernel": ("#eaeef2", "#57606a"),
          "write": ("#ffebe9", "#cf222e"), "read": ("#fff8c5", "#9a6700"),
          "none": ("#ffffff", "#afb8c1")}
LINE, CHARACTER, SMALL, MARGIN = 17, 7.3, 6.4, 20
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" \
height="{height:g}" role="img">
<!-- SPDX-License-Identifier: GPL-2.0. Made from {source} by make docs: change that, not this. -->
<title>{title}</title>
<style>text {{ font: 13px sans-serif; fill: #1f2328 }} .head {{ font-weight: bold }}
.small {{ font-size: 12px; fill: #57606a }} path {{ stroke: #57606a; fill: none }}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" \
orient="auto"><path d="M0 0 8 4 0 8Z" style="fill: #57606a"/></marker></defs>
<rect width="100%" height="100%" fill="#ffffff"/>
"""


class Misfit(ValueError):
    """What is wrong with a drawing."""


def text(x, y, words, css="", anchor="middle"):
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{kind}>{escape(words)}</text>\n'


def rectangle(x, y, width, height, lines, style):
    """A box with lines of text in its middle."""
    if style not in STYLES:
        raise Misfit(f"there is no style '{style}'")
    for line in lines:
        if len(line) * CHARACTER > width:
            raise Misfit(f"'{line}' does not fit into {width:g}")
    if len(lines) * LINE > height:
        raise Misfit(f"{len(lines)} lines do not fit into {height:g}: {lines}")
    fill, border = STYLES[style]
    top = y + height / 2 - len(lines) * LINE / 2 + 13
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
            f'fill="{fill}" stroke="{border}"/>\n'
            + "".join(text(x + width / 2, top + n * LINE, line, "" if n else "head")
                      for n, line in enumerate(lines)))


class Boxes:
    """Boxes on a grid, and arrows."""

    def __init__(self, data):
        self.data = data
        self.pitch, self.size = data["pitch"], data["size"]
        self.places = {box["id"]: self.place(box) for box in data["box"]}

    def place(self, box):
        """Left, top, width and height."""
        (column, row), (width, height) = box["at"], box.get("size", self.size)
        return (MARGIN + column * self.pitch[0], MARGIN + row * self.pitch[1], width, height)

    def extent(self):
        return (max(x + w for x, _, w, _ in self.places.values()) + MARGIN,
                max(y + h for _, y, _, h in self.places.values()) + MARGIN)

    def arrow(self, arrow):
        """From border to border: straight down or across where the boxes face each other."""
        try:
            x1, y1, w1, h1 = self.places[arrow["from"]]
            x2, y2, w2, h2 = self.places[arrow["to"]]
        except KeyError as missing:
            raise Misfit(f"there is no box {missing}") from None
        left, right = max(x1, x2), min(x1 + w1, x2 + w2)
        if left < right:
            x = left + (right - left) * arrow.get("along", 0.5)
            start, end = ((y1 + h1, y2) if y1 < y2 else (y1, y2 + h2))
            return self.line(x, start, x, end, arrow)
        top, bottom = max(y1, y2), min(y1 + h1, y2 + h2)
        if top >= bottom:
            raise Misfit(f"{arrow['from']} and {arrow['to']} do not face each other")
        y = top + (bottom - top) * arrow.get("along", 0.5)
        start, end = ((x1 + w1, x2) if x1 < x2 else (x1, x2 + w2))
        return self.line(start, y, end, y, arrow)

    def line(self, x1, y1, x2, y2, arrow):
        for words in arrow.get("text", []):
            room = self.extent()[0] - x1 - 7 if x1 == x2 else abs(x2 - x1)
            if len(words) * SMALL > room:
                raise Misfit(f"'{words}' does not fit into {room:g}")
        drawn = f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" marker-end="url(#tip)"/>\n'
        for n, words in enumerate(arrow.get("text", [])):
            if x1 == x2:
                middle = (y1 + y2) / 2 + 4 - (len(arrow["text"]) - 1) * 7.5 + n * 15
                drawn += text(x1 + 7, middle, words, "small", "start")
            else:
                drawn += text((x1 + x2) / 2, y1 - 6 - (len(arrow["text"]) - 1 - n) * 15, words,
                              "small")
        return drawn

    def body(self):
        return ("".join(rectangle(*self.places[box["id"]], box["text"], box.get("style", "plain"))
                        for box in self.data["box"])
                + "".join(self.arrow(arrow) for arrow in self.data.get("arrow", [])))


class Timeline:
    """Lanes side by side; time runs downwards."""

    def __init__(self, data):
        self.data, self.unit = data, data["unit"]
        self.width, self.lanes = data["width"], data["lanes"]

    def left(self, lane):
        return MARGIN + lane * (self.width + self.data["gap"])

    @staticmethod
    def top(time, unit):
        return MARGIN + 30 + time * unit

    def extent(self):
        end = max([step["to"] for step in self.data["step"]]
                  + [event["at"] + 0.5 for event in self.data.get("event", [])])
        return (self.left(len(self.lanes) - 1) + self.width + self.data["gap"],
                self.top(end, self.unit) + MARGIN)

    def body(self):
        drawn = "".join(text(self.left(lane) + self.width / 2, MARGIN + 13, name, "head")
                        for lane, name in enumerate(self.lanes))
        for step in self.data["step"]:
            top = self.top(step["from"], self.unit)
            drawn += rectangle(self.left(step["lane"]), top, self.width,
                               self.top(step["to"], self.unit) - top, step["text"], step["style"])
        for event in self.data.get("event", []):
            x = self.left(event["lane"]) + self.width
            y = self.top(event["at"], self.unit)
            if len(event["text"]) * SMALL > self.data["gap"] - 27:
                raise Misfit(f"'{event['text']}' does not fit into {self.data['gap']}")
            drawn += (f'<path d="M{x + 22:g} {y:g} {x + 2:g} {y:g}" marker-end="url(#tip)"/>\n'
                      + text(x + 27, y + 4, event["text"], "small", "start"))
        return drawn


KINDS = {"boxes": Boxes, "timeline": Timeline}


def svg(source, name):
    """The SVG of the drawing whose text is `source`, in the file `name`."""
    try:
        data = tomllib.loads(source)
        drawing = KINDS[data["kind"]](data)
        width, height = drawing.extent()
        head = HEAD.format(width=width, height=height, source=name, title=escape(data["title"]))
        return head + drawing.body() + "</svg>\n"
    except KeyError as missing:
        raise Misfit(f"there is no {missing}") from None
    except tomllib.TOMLDecodeError as error:
        raise Misfit(str(error)) from None
