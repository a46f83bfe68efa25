"""When a run has changed something, and which logs are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dozencloud.lifecycle.commands import KEPT, _new_folder, worked
from dozencloud.tasks.graph import Step, Task
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState


def nothing(step: Step) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "checked", "state", "expected"),
    [
        ("keystone", True, TaskState.DONE, True),
        ("keystone", True, TaskState.SKIPPED, False),
        ("configuration", False, TaskState.DONE, False),
        ("compute-node", True, TaskState.DONE, False),
        ("keystone", True, TaskState.FAILED, False),
    ],
)
def test_what_counts_as_a_change(
    name: str, checked: bool, state: TaskState, expected: bool
) -> None:
    task = Task(name, name, nothing, done=(lambda: True) if checked else None)
    records = (TaskRecord(name, name, state, 0.0, 1.0),)
    report = RunReport(datetime(2026, 1, 1, tzinfo=UTC), "dozen up", {}, records)
    assert worked(report, [task]) is expected


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        (tmp_path / f"2020010{number}T000000Z").mkdir()
    (tmp_path / "a file").touch()
    _new_folder(tmp_path).mkdir()
    runs = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert len(runs) == KEPT
    assert runs[0] == "20200104T000000Z"
