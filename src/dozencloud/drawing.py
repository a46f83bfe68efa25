"""SVG pictures, by the standard library alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

CHARACTER = 6.6  # px; the width of a character at 12 px, generous, since fonts differ


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
