"""What a run took: its record on disk, its critical path, and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dozencloud.errors import Problem
from dozencloud.private import write_private

if TYPE_CHECKING:
    from rich.table import Table


class TaskState(StrEnum):
    """Where a task stands. SKIPPED: it found its work done."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class TaskRecord:
    """What became of one task. Times are seconds since the run began; None: never started."""

    name: str
    title: str
    state: TaskState
    started: float | None
    ended: float | None
    after: tuple[str, ...] = ()
    note: str = ""
    error: str = ""

    @property
    def seconds(self) -> float:
        """How long the task ran."""
        return 0.0 if self.started is None or self.ended is None else self.ended - self.started


@dataclass(frozen=True)
class RunReport:
    """One whole run: when, what was typed, on which machine, and every task's record."""

    begun: datetime
    command: str
    machine: Mapping[str, Any]
    records: tuple[TaskRecord, ...]

    @property
    def seconds(self) -> float:
        """From the beginning of the run to the end of its last task."""
        return max((record.ended or 0.0 for record in self.records), default=0.0)

    def to_json(self) -> str:
        """The report as text that `from_json` reads."""
        data = asdict(self) | {"begun": self.begun.isoformat(), "machine": dict(self.machine)}
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunReport:
        """Read what `to_json` wrote."""
        try:
            data = json.loads(text)
            records = tuple(
                TaskRecord(**(r | {"state": TaskState(r["state"]), "after": tuple(r["after"])}))
                for r in data["records"]
            )
            begun = datetime.fromisoformat(data["begun"])
            return cls(begun, data["command"], data["machine"], records)
        except (ValueError, TypeError, KeyError) as error:
            raise Problem(
                "The timing report is damaged.", "The next `dozen up` writes a new one."
            ) from error

    def save(self, path: Path) -> None:
        """Write to `path`, so that a reader sees the old or the new report, never half of one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, self.to_json())


@dataclass(frozen=True)
class Hop:
    """One task of the critical path, and the seconds that passed unused before it began."""

    record: TaskRecord
    gap: float


def blocker(record: TaskRecord, records: Iterable[TaskRecord]) -> TaskRecord | None:
    """The dependency of `record` that ended last: the one that it really waited for."""
    needed = [r for r in records if r.name in record.after and r.ended is not None]
    return max(needed, key=lambda r: r.ended or 0.0, default=None)


def critical_path(report: RunReport) -> tuple[Hop, ...]:
    """The chain of tasks that determined the end; gaps and seconds add up to the whole run."""
    ran = [r for r in report.records if r.started is not None and r.ended is not None]
    record = max(ran, key=lambda r: r.ended or 0.0, default=None)
    hops: list[Hop] = []
    while record is not None:
        before = blocker(record, ran)
        hops.append(Hop(record, (record.started or 0.0) - ((before and before.ended) or 0.0)))
        record = before
    return tuple(reversed(hops))


def by_start(report: RunReport) -> list[TaskRecord]:
    """In the order in which they began; those that never did last."""
    return sorted(report.records, key=lambda r: (r.started is None, r.started or 0.0))


def _rows(report: RunReport) -> list[tuple[str, str, str, str, str]]:
    critical = {hop.record.name for hop in critical_path(report)}
    whole = report.seconds or 1.0
    rows = []
    for r in by_start(report):
        mark = "*" if r.name in critical else ""
        title = r.title if r.state is TaskState.DONE else f"{r.title} ({r.state})"
        if r.started is None:
            rows.append((mark, title, "", "", ""))
        else:
            times = (f"{r.started:.1f}", f"{r.seconds:.1f}", f"{r.seconds / whole:.0%}")
            rows.append((mark, title, *times))
    return rows


def summary(report: RunReport) -> str:
    """The run in one sentence."""
    hops = critical_path(report)
    gaps = sum(hop.gap for hop in hops)
    work = sum(r.seconds for r in report.records)
    return (
        f"{len(report.records)} tasks, {work:.1f} s of work in {report.seconds:.1f} s. "
        f"Critical path (*): {len(hops)} tasks, {report.seconds - gaps:.1f} s at work, "
        f"{gaps:.1f} s waiting to start."
    )


HEADINGS = ("", "task", "start", "seconds", "share")


def table(report: RunReport) -> Table:
    """Every task by start, for a terminal; the critical path is bold and marked."""
    # `graph` imports this module and must work with the standard library alone.
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, caption=summary(report), caption_justify="left", pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        result.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number != 1)
    for row in _rows(report):
        cells = (Text(cell, no_wrap=True, overflow="ellipsis") for cell in row)
        result.add_row(*cells, style="bold" if row[0] else None)
    return result


def plain(report: RunReport) -> str:
    """The same table as text in columns, for a file or a pipe."""
    rows = [HEADINGS, *_rows(report)]
    width = max(len(row[1]) for row in rows)
    lines = [
        f"{mark:1} {title:{width}} {start:>8} {seconds:>8} {share:>6}".rstrip()
        for mark, title, start, seconds, share in rows
    ]
    return "\n".join([*lines, "", summary(report), ""])
