"""The plan of the house: imports go down only, in no circle, and no module is beside the wings."""

from __future__ import annotations

import importlib
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

TOOLS = str(Path(__file__).resolve().parents[2] / "tools")


@pytest.fixture(scope="module")
def house() -> Any:
    sys.path.insert(0, TOOLS)
    try:
        return importlib.import_module("house")
    finally:
        sys.path.remove(TOOLS)


def test_no_module_stands_beside_the_wings_but_the_ground(house: Any) -> None:
    assert {path.stem for path in house.PACKAGE.glob("*.py")} == house.GROUND
    assert {name.partition(".")[0] for name in house.MODULES if "." in name} == set(house.WINGS)


def test_imports_go_down_only(house: Any) -> None:
    up = [
        f"{name} imports {other}"
        for name in house.MODULES
        if name != "__main__"
        for other in house.imports(name)
        if house.floor(other) < house.floor(name)
    ]
    assert up == []


def test_no_module_needs_itself_in_the_end(house: Any) -> None:
    graph = {name: {*house.imports(name)} - {name} for name in house.MODULES}
    TopologicalSorter(graph).prepare()


def test_the_tasks_know_no_cloud(house: Any) -> None:
    known = {o for name in house.MODULES if name.startswith("tasks.") for o in house.imports(name)}
    assert {other for other in known if not other.startswith("tasks")} <= house.GROUND | {""}


def test_the_facts_stand_on_the_ground(house: Any) -> None:
    known = {o for name in house.MODULES if name.startswith("facts") for o in house.imports(name)}
    assert {other for other in known if not other.startswith("facts")} <= house.GROUND | {""}


def test_the_picture_is_that_of_the_imports(house: Any) -> None:
    assert house.PICTURE.read_text() == house.picture(), "run: make docs"
