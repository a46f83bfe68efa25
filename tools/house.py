"""The plan of the house, from the imports: its wings, who imports whom, and the picture of it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import dozencloud
from dozencloud import drawing
from made.markdown import code, codes, table

PACKAGE = Path(dozencloud.__file__).parent
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "house.svg"

WINGS: Mapping[str, str] = {
    "cli": "a new command",
    "guestbench": "what is measured in servers",
    "lifecycle": "the order of a bring-up",
    "nodes": "joining, draining",
    "checks": '"what is the matter?"',
    "content": "the first five minutes",
    "access": "how a person reaches a server",
    "services": "a new service",
    "compute": "a new kind of server",
    "supervision": "how processes live",
    "hooks": "a new upstream hook",
    "images": "what an image is, a boot method",
    "host": "a new distribution",
    "tasks": "progress",
    "cloud": "a new setting",
    "facts": "a new probe",
}
"""The top floor first -> who comes there to change something."""
GROUND = {
    *("__init__", "__main__", "downloads", "drawing", "errors", "legible", "locks", "private"),
    *("releases", "scrub", "verdicts"),
}
"""Modules beside the wings: the standard library only, and each other."""

ROW, TOP, BOX, LIVES, GRID, CELL = 34, 150, 128, 180, 700, 23  # px
STYLE = """
.wing { fill: #e3edfb; stroke: #3b6fb5 } .base { fill: #ebe7f5; stroke: #6b55a6 }
.name { font-weight: 600; text-anchor: middle } .line { stroke: #e4e8ee } .dot { fill: #3b6fb5 }
@media (prefers-color-scheme: dark) {
.wing { fill: #14273f; stroke: #5b9bea } .base { fill: #271f3d; stroke: #a98de0 }
.line { stroke: #262d38 } .dot { fill: #5b9bea }
}
"""


def modules() -> dict[str, Path]:
    """Name below the package -> file; a package's is that of its folder."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Modules of ours that this one imports, anywhere in it, also inside functions."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            raise ValueError(f"{name} imports by dots")
        top, _, below = (node.module or "").partition(".")
        if top == "dozencloud":
            for alias in node.names:
                whole = f"{below}.{alias.name}".lstrip(".")
                yield whole if whole in MODULES else below


def wing(name: str) -> str:
    """The wing that a module is in; `ground` if it is beside them."""
    top = name.partition(".")[0]
    return top if top in WINGS else "ground"


def floor(name: str) -> int:
    """Of a module, counted from the top; the ground is the last."""
    return [*WINGS, "ground"].index(wing(name))


def lives(name: str) -> str:
    """What is in a wing: the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    return text.splitlines()[0].removesuffix(".")


def between_wings() -> Counter[tuple[str, str]]:
    """Wing, wing below it -> how many modules of the one are imported by modules of the other."""
    return Counter(
        (wing(name), wing(other))
        for name in MODULES
        if name not in GROUND
        for other in set(imports(name))
        if wing(name) != wing(other) != "ground"
    )


def wings_table() -> str:
    """The wings, what lives there, who comes to change something."""
    rows = [(code(f"{name}/"), lives(name), who) for name, who in WINGS.items()]
    ground = codes(name for name in sorted(GROUND) if not name.startswith("_"))
    rows.append((ground, "the ground: the standard library only", "what all stand on"))
    return table(("wing", "what lives there", "who comes here to change something"), rows)


def picture() -> str:
    """Floors with what lives there, and beside each a dot below the name of what it imports."""
    floors = [*WINGS, "ground"]
    counted = between_wings()
    words = "Each wing imports only those below it. A dot: modules of the row's wing import from"
    root = drawing.page("Wings and their imports", f"{words} the column's.", STYLE)
    bottom = TOP + ROW * len(WINGS)
    for number, name in enumerate(WINGS):
        x = GRID + CELL * number + CELL / 2
        drawing.add(root, "line", css="line", x1=x, x2=x, y1=TOP - 8, y2=bottom)
        turned = f"rotate(-60 {x} {TOP - 16})"
        drawing.add(root, "text", name, css="quiet", x=x, y=TOP - 16, transform=turned)
    for number, name in enumerate(floors):
        y = TOP + ROW * number + ROW / 2
        css = "base" if name == "ground" else "wing"
        left = drawing.MARGIN
        drawing.add(root, "rect", css=css, x=left, y=y - 13, width=BOX, height=26, rx=4)
        drawing.add(root, "text", name, css="name", x=drawing.MARGIN + BOX / 2, y=y + 4)
        what = lives(name) if name in WINGS else "The standard library only: what all stand on"
        drawing.add(root, "text", what, css="quiet", x=LIVES, y=y + 4)
        for column, below in enumerate(WINGS):
            if count := counted[name, below]:
                x = GRID + CELL * column + CELL / 2
                drawing.add(root, "circle", css="dot", cx=x, cy=y, r=3 if count < 5 else 6)
    height = bottom + ROW + 50
    legend = f"{words} the column's, large: by five or more imports."
    drawing.add(root, "text", legend, css="quiet", x=drawing.MARGIN, y=height - 22)
    return drawing.finished(root, height)
