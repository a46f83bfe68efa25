"""The timing report: critical path, table, picture."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dozencloud.tasks.picture import svg
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState, critical_path, plain, table

SVG = "{http://www.w3.org/2000/svg}"


def ran(
    name: str, start: float, end: float, *after: str, state: TaskState = TaskState.DONE
) -> TaskRecord:
    return TaskRecord(name, name.title(), state, start, end, after)


def report(*records: TaskRecord) -> RunReport:
    return RunReport(datetime(2026, 11, 20, 9, 41, tzinfo=UTC), "dozen up", {"cpus": 2}, records)


CLOUD = report(
    ran("packages", 0.0, 4.0),
    ran("environment", 0.0, 2.0),
    ran("users", 0.0, 0.0, state=TaskState.SKIPPED),
    ran("mariadb", 4.0, 5.0, "packages", "users"),
    ran("rabbitmq", 4.5, 8.0, "packages"),
    ran("nova", 8.5, 10.0, "mariadb", "rabbitmq", "environment"),
)
FAILED = report(
    ran("a", 0.0, 1.0),
    replace(ran("b", 1.0, 3.0, "a", state=TaskState.FAILED), error="No disk."),
    ran("c", 1.0, 2.5, "a", state=TaskState.CANCELLED),
    TaskRecord("d", "D", TaskState.CANCELLED, None, None, ("b",)),
)


@pytest.mark.parametrize(
    ("run", "path"),
    [
        (CLOUD, [("packages", 0.0), ("rabbitmq", 0.5), ("nova", 0.5)]),
        (FAILED, [("a", 0.0), ("b", 0.0)]),
        (report(ran("late", 2.0, 3.0), ran("early", 0.0, 1.0)), [("late", 2.0)]),
        (report(TaskRecord("a", "A", TaskState.CANCELLED, None, None)), []),
        (report(), []),
    ],
)
def test_critical_path(run: RunReport, path: list[tuple[str, float]]) -> None:
    assert [(hop.record.name, hop.gap) for hop in critical_path(run)] == path


def test_gaps_and_work_of_the_critical_path_add_up_to_the_run() -> None:
    hops = critical_path(CLOUD)
    assert sum(hop.gap + hop.record.seconds for hop in hops) == pytest.approx(CLOUD.seconds)


def test_plain_table() -> None:
    lines = plain(CLOUD).splitlines()
    assert lines[0].split() == ["task", "start", "seconds", "share"]
    assert lines[1].split() == ["*", "Packages", "0.0", "4.0", "40%"]
    assert lines[3].split() == ["Users", "(skipped)", "0.0", "0.0", "0%"]
    starts = [float(line.split()[-3]) for line in lines[1:7]]
    assert starts == sorted(starts)
    assert [line.split()[1] for line in lines if line.startswith("*")] == [
        "Packages",
        "Rabbitmq",
        "Nova",
    ]
    assert lines[-1] == (
        "6 tasks, 12.0 s of work in 10.0 s. Critical path (*): 3 tasks, 9.0 s at work, "
        "1.0 s waiting to start."
    )


def test_plain_table_of_a_failure_and_of_nothing() -> None:
    lines = plain(FAILED).splitlines()
    assert "B (failed)" in lines[2] or "B (failed)" in lines[3]
    assert lines[4].split() == ["D", "(cancelled)"]
    assert plain(report()).startswith("  task")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table(replace(CLOUD, records=(*CLOUD.records, ran("[bold]x", 9, 10)))))
    lines = console.export_text().splitlines()
    assert all(len(line) <= width for line in lines)
    assert any(re.search(r"\* +Packages +0\.0 +4\.0 +40%", line) for line in lines)
    assert any("[Bold]X" in line for line in lines)  # a title is no markup


# ---- the picture -----------------------------------------------------------------------------


def parsed(run: RunReport) -> ElementTree.Element:
    return ElementTree.fromstring(svg(run))  # noqa: S314  (our own text)


def rectangles(root: ElementTree.Element) -> dict[str, list[str]]:
    """The classes of each task's bar, by the tooltip's task title."""
    bars = {}
    for group in root.iter(f"{SVG}g"):
        tip = (group.findtext(f"{SVG}title") or "").partition(":")[0]
        rect = group.find(f"{SVG}rect")
        bars[tip] = [] if rect is None else rect.attrib["class"].split()
    return bars


def test_svg_has_every_task_with_its_state_and_marks_the_critical_path() -> None:
    root = parsed(CLOUD)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["width"] == "1100"
    assert rectangles(root) == {
        "Packages": ["critical", "done"],
        "Environment": ["done"],
        "Users": ["skipped"],
        "Mariadb": ["done"],
        "Rabbitmq": ["critical", "done"],
        "Nova": ["critical", "done"],
    }


def test_svg_of_a_failure_shows_what_never_started() -> None:
    root = parsed(FAILED)
    assert rectangles(root) == {
        "A": ["critical", "done"],
        "B": ["critical", "failed"],
        "C": ["cancelled"],
        "D": [],
    }
    written = "".join(root.itertext())
    assert "No disk." in written
    assert "D: never started" in written


def test_svg_is_accessible_and_follows_the_readers_colours() -> None:
    root = parsed(CLOUD)
    ids = {element.attrib.get("id") for element in root}
    assert set(root.attrib["aria-labelledby"].split()) <= ids
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == "dozen up: 10.0 s"
    assert "In order: Packages 4.0 s, Rabbitmq 3.5 s, Nova 1.5 s." in (
        root.findtext(f"{SVG}desc") or ""
    )
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


def test_svg_draws_a_line_to_the_dependency_that_ended_last() -> None:
    root = parsed(CLOUD)
    links = [p for p in root.iter(f"{SVG}path") if p.attrib["class"] == "link"]
    chain = [p for p in root.iter(f"{SVG}path") if p.attrib["class"] == "chain"]
    assert len(links) == 2  # the legend's and MariaDB's
    assert len(chain) == 3
    bars = {
        (g.findtext(f"{SVG}title") or "").partition(":")[0]: r.attrib
        for g in root.iter(f"{SVG}g")
        if (r := g.find(f"{SVG}rect")) is not None
    }
    end = float(bars["Packages"]["x"]) + float(bars["Packages"]["width"])
    match = re.match(r"M([\d.]+) ([\d.]+) V([\d.]+) H([\d.]+)$", links[1].attrib["d"])
    assert match
    x, _, _, right = map(float, match.groups())
    assert x == pytest.approx(end, abs=0.2)
    assert right == pytest.approx(float(bars["Mariadb"]["x"]), abs=0.2)


times = st.floats(0, 5000)
records = st.builds(
    lambda title, state, times, never: TaskRecord(
        "n", title, state, None if never else min(times), None if never else max(times)
    ),
    st.text(max_size=90),
    st.sampled_from([TaskState.DONE, TaskState.SKIPPED, TaskState.FAILED, TaskState.CANCELLED]),
    st.tuples(times, times),
    st.booleans(),
)


@given(st.lists(records, max_size=12))
def test_any_report_becomes_a_well_formed_picture_inside_its_frame(some: list[TaskRecord]) -> None:
    run = report(*(replace(r, name=f"n{i}") for i, r in enumerate(some)))
    root = parsed(run)
    assert len(list(root.iter(f"{SVG}g"))) == len(some)
    height = float(root.attrib["height"])
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) >= 0
        assert float(rect.get("x", 0)) + float(rect.attrib["width"]) <= 1100
        assert float(rect.get("y", 0)) + float(rect.attrib["height"]) <= height
    middles = [float(text.attrib["y"]) for text in root.findall(f"{SVG}g/{SVG}text")]
    assert all(b - a >= 12 for a, b in zip(sorted(middles), sorted(middles)[1:], strict=False))
