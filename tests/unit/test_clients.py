"""How the results of the clients' own tests are judged (tests/clients)."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
REPORT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest">
<testcase classname="a.B" name="passes" />
<testcase classname="a.B" name="fails"><failure message="odd">1&#10;E: why</failure></testcase>
<testcase classname="a.B" name="is_left_out"><skipped message="no such service" /></testcase>
<testcase classname="a.B" name="clears_up_badly" />
<testcase classname="a.B" name="clears_up_badly"><error message="at teardown">t</error></testcase>
</testsuite></testsuites>
"""


@pytest.fixture(scope="module")
def explained() -> Iterator[Any]:
    sys.path.insert(0, str(CLIENTS))
    try:
        import explained

        yield explained
    finally:
        sys.path.remove(str(CLIENTS))


def test_what_came_of_each(explained: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    came = {name: (each.of, each.said) for name, each in explained.outcomes(report).items()}
    assert came == {
        "a.B.passes": ("passed", ""),
        "a.B.fails": ("failed", "E: why"),
        "a.B.is_left_out": ("skipped", "no such service"),
        "a.B.clears_up_badly": ("failed", "at teardown"),
    }


@pytest.mark.parametrize(
    ("of", "known", "word"),
    [
        ("failed", {}, "nobody says why"),
        ("failed", {"t": "so"}, ""),
        ("passed", {"t": "so"}, "stale"),
        ("skipped", {"t": "so"}, "stale"),
        ("passed", {}, ""),
    ],
)
def test_a_failure_has_an_explanation_and_an_explanation_a_failure(
    explained: Any, of: str, known: dict[str, str], word: str
) -> None:
    found = list(explained.complaints({"t": explained.Outcome(of)}, known))
    assert len(found) == bool(word)
    assert all(word in line for line in found)


def test_every_explanation_is_a_sentence_and_every_test_has_one(explained: Any) -> None:
    groups = tomllib.loads(explained.LEFT.read_text())["left"]
    named = [test for group in groups for test in group["tests"]]
    assert len(set(named)) == len(named)
    assert all(group["why"].endswith(".") and len(group["why"]) > 20 for group in groups)


def test_the_clients_are_those_of_the_cloud() -> None:
    project = tomllib.loads((CLIENTS.parents[1] / "pyproject.toml").read_text())["project"]
    locked = (CLIENTS / "requirements.txt").read_text()
    for name in ("openstacksdk", "python-openstackclient"):
        (pin,) = (each for each in project["dependencies"] if each.startswith(f"{name}=="))
        assert f"{pin} \\\n" in locked
