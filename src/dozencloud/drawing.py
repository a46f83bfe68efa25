"""SVG pictures, by the standard library alone: a page, and elements on it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

WIDTH = 1100  # px; of every page
MARGIN = 28  # px
CHARACTER = 6.6  # px; the width of a character at 12 px, generous, since fonts differ


STYLE = """
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.paper { fill: #ffffff } .head { font-size: 19px; font-weight: 600 }
.quiet { fill: #5f6c7b } .grid { stroke: #e4e8ee }
.middle { text-anchor: middle } .end { text-anchor: end }
.halo { stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; paint-order: stroke }
@media (prefers-color-scheme: dark) {
text { fill: #e6eaf0 } .paper { fill: #14181f }
.quiet { fill: #98a4b3 } .grid { stroke: #262d38 } .halo { stroke: #14181f }
}
"""
"""What all pages have: by day and by night."""


def page(heading: str, description: str, style: str) -> ElementTree.Element:
    """A page with its heading. description: for those who cannot see it.  style: its own CSS."""
    names = {"role": "img", "aria-labelledby": "title desc"}
    root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **names})
    add(root, "title", heading, id="title")
    add(root, "desc", description, id="desc")
    add(root, "style", STYLE + style.lstrip())
    add(root, "rect", css="paper", width=WIDTH)
    add(root, "text", heading, css="head", x=MARGIN, y=36)
    return root


def finished(root: ElementTree.Element, height: float) -> str:
    """The page as text, with its size in px."""
    root.attrib |= {
        "width": str(WIDTH),
        "height": str(height),
        "viewBox": f"0 0 {WIDTH} {height}",
    }
    paper = next(root.iter("rect"))  # what lies lowest comes first
    paper.set("height", str(height))
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def swatch(parent: ElementTree.Element, css: str, x: float, y: float) -> None:
    """A piece of colour in a legend, before text whose line is at `y`."""
    add(parent, "rect", css=css, x=x, y=y - 10.5, width=18, height=12.5, rx=2.5)


def add(
    parent: ElementTree.Element,
    tag: str,
    text: str = "",
    css: str = "",
    **attributes: str | float,
) -> ElementTree.Element:
    """A new element in `parent`. css: its classes."""
    if css:
        attributes["class"] = css
    element = ElementTree.SubElement(parent, tag, {k: str(v) for k, v in attributes.items()})
    # XML 1.0 (section 2.2) has no way to write control characters.
    element.text = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
    return element
