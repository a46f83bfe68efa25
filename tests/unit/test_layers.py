"""The plan of the house: imports go down only, in no circle, and no module is beside the wings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import dozencloud

PACKAGE = Path(dozencloud.__file__).parent
WINGS = (
    *("cli", "guestbench", "lifecycle", "nodes", "checks", "content", "access", "services"),
    *("compute", "supervision", "hooks", "images", "host", "tasks", "cloud", "facts"),
)
"""The top floor first, as docs/architecture.md has them."""
GROUND = {
    *("__init__", "__main__", "downloads", "drawing", "errors", "legible", "locks", "private"),
    *("releases", "scrub", "verdicts"),
}
"""Modules beside the wings: the standard library only, and each other."""


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
        assert not node.level, f"{name} imports by dots"
        top, _, below = (node.module or "").partition(".")
        if top == "dozencloud":
            for alias in node.names:
                whole = f"{below}.{alias.name}".lstrip(".")
                yield whole if whole in MODULES else below


def floor(name: str) -> int:
    """Of the wing, from above; the ground is the last."""
    wing = name.partition(".")[0]
    return WINGS.index(wing) if wing in WINGS else len(WINGS)


def test_no_module_stands_beside_the_wings_but_the_ground() -> None:
    beside = {path.stem for path in PACKAGE.glob("*.py")}
    assert beside == GROUND
    assert {name.partition(".")[0] for name in MODULES if "." in name} == set(WINGS)


def test_imports_go_down_only() -> None:
    up = [
        f"{name} imports {other}"
        for name in MODULES
        if name != "__main__"
        for other in imports(name)
        if floor(other) < floor(name)
    ]
    assert up == []


def test_no_module_needs_itself_in_the_end() -> None:
    TopologicalSorter({name: {*imports(name)} - {name} for name in MODULES}).prepare()


def test_the_tasks_know_no_cloud() -> None:
    known = {other for name in MODULES if name.startswith("tasks.") for other in imports(name)}
    assert {other for other in known if not other.startswith("tasks")} <= GROUND | {""}
