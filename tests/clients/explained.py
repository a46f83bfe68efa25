"""What came of the clients' tests, held against what is known to be left."""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LEFT = Path(__file__).with_name("left.toml")


@dataclass(frozen=True)
class Outcome:
    """of: passed, skipped or failed.   said: why it was skipped, or what failed."""

    of: str
    said: str = ""


def left(path: Path = LEFT) -> dict[str, str]:
    """Test that fails -> why."""
    groups = tomllib.loads(path.read_text())["left"]
    return {test: group["why"] for group in groups for test in group["tests"]}


def outcomes(report: Path) -> dict[str, Outcome]:
    """Test -> what came of it, from pytest's report (JUnit's XML), which this machine wrote."""
    found: dict[str, Outcome] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        name = f"{case.get('classname')}.{case.get('name')}"
        came = Outcome("passed")
        for kind, of in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            if (said := case.find(kind)) is not None:
                came = Outcome(of, _last_line(said))
                break
        # A test may end in two ways, as with an error while it is cleared up.
        if name not in found or found[name].of != "failed":
            found[name] = came
    return found


def _last_line(said: ET.Element) -> str:
    """Of a trace, what was raised; else what pytest says of it."""
    text = said.text if said.tag == "failure" else said.get("message")
    lines = (text or said.get("message") or "").strip().splitlines()
    return lines[-1][:300] if lines else ""


def complaints(found: Mapping[str, Outcome], known: Mapping[str, str]) -> Iterator[str]:
    """Failures without an explanation, and explanations without a failure."""
    for name, outcome in sorted(found.items()):
        if outcome.of == "failed" and name not in known:
            yield f"fails, and nobody says why: {name}: {outcome.said}"
        if outcome.of != "failed" and name in known:
            yield f"{outcome.of}, so that the explanation is stale: {name}: {known[name]}"
