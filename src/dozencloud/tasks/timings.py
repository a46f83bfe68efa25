"""What a run took: its record on disk, its critical path, a table, and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from dozencloud.drawing import CHARACTER, add
from dozencloud.errors import Problem
from dozencloud.private import write_private

if TYPE_CHECKING:
    from rich.table import Table


class State(StrEnum):
    """Where a task stands. SKIPPED: it found its work done."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Record:
    """What became of one task. Times are seconds since the run began; None: never started."""

    name: str
    title: str
    state: State
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
class Report:
    """One whole run: when, what was typed, on which machine, and every task's record."""

    begun: datetime
    command: str
    machine: Mapping[str, Any]
    records: tuple[Record, ...]

    @property
    def seconds(self) -> float:
        """From the beginning of the run to the end of its last task."""
        return max((record.ended or 0.0 for record in self.records), default=0.0)

    def to_json(self) -> str:
        """The report as text that `from_json` reads."""
        data = asdict(self) | {"begun": self.begun.isoformat(), "machine": dict(self.machine)}
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote."""
        try:
            data = json.loads(text)
            records = tuple(
                Record(**(r | {"state": State(r["state"]), "after": tuple(r["after"])}))
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

    record: Record
    gap: float


def blocker(record: Record, records: Iterable[Record]) -> Record | None:
    """The dependency of `record` that ended last: the one that it really waited for."""
    needed = [r for r in records if r.name in record.after and r.ended is not None]
    return max(needed, key=lambda r: r.ended or 0.0, default=None)


def critical_path(report: Report) -> tuple[Hop, ...]:
    """The chain of tasks that determined the end; gaps and seconds add up to the whole run."""
    ran = [r for r in report.records if r.started is not None and r.ended is not None]
    record = max(ran, key=lambda r: r.ended or 0.0, default=None)
    hops: list[Hop] = []
    while record is not None:
        before = blocker(record, ran)
        hops.append(Hop(record, (record.started or 0.0) - ((before and before.ended) or 0.0)))
        record = before
    return tuple(reversed(hops))


def _by_start(report: Report) -> list[Record]:
    """In the order in which they began; those that never did last."""
    return sorted(report.records, key=lambda r: (r.started is None, r.started or 0.0))


def _rows(report: Report) -> list[tuple[str, str, str, str, str]]:
    critical = {hop.record.name for hop in critical_path(report)}
    whole = report.seconds or 1.0
    rows = []
    for r in _by_start(report):
        mark = "*" if r.name in critical else ""
        title = r.title if r.state is State.DONE else f"{r.title} ({r.state})"
        if r.started is None:
            rows.append((mark, title, "", "", ""))
        else:
            times = (f"{r.started:.1f}", f"{r.seconds:.1f}", f"{r.seconds / whole:.0%}")
            rows.append((mark, title, *times))
    return rows


def summary(report: Report) -> str:
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


def table(report: Report) -> Table:
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


def plain(report: Report) -> str:
    """The same table as text in columns, for a file or a pipe."""
    rows = [HEADINGS, *_rows(report)]
    width = max(len(row[1]) for row in rows)
    lines = [
        f"{mark:1} {title:{width}} {start:>8} {seconds:>8} {share:>6}".rstrip()
        for mark, title, start, seconds, share in rows
    ]
    return "\n".join([*lines, "", summary(report), ""])


# ---- the picture ---------------------------------------------------------------------------

WIDTH = 1100
LEFT, RIGHT = 28, 110  # px; right of the axis there is room for short labels
TOP, ROW, BAR = 116, 21, 13  # px
MINUTES = 180  # s; from here on times are written as minutes

STYLE = """
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.paper { fill: #ffffff } .head { font-size: 19px; font-weight: 600 }
.quiet { fill: #5f6c7b } .grid { stroke: #e4e8ee } .link { stroke: #a6b1bf; fill: none }
.halo { stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; paint-order: stroke }
.strong { font-weight: 600 } .chain { stroke: #d9480f; fill: none; stroke-width: 2 }
.inside { fill: #0b0e13 } .inside.on-failed { fill: #ffffff }
.done { fill: #9db8d6 } .skipped { fill: #c9ced6 } .failed { fill: #b3123c }
.cancelled { fill: #ffffff; stroke: #7b8794; stroke-dasharray: 3 2 }
.critical.done { fill: #e8590c } .critical.skipped { fill: #f5b58d }
.critical.failed, .critical.cancelled { stroke: #d9480f; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6eaf0 } .paper { fill: #14181f } .quiet { fill: #98a4b3 }
.grid { stroke: #262d38 } .link { stroke: #5d6b7e } .halo { stroke: #14181f }
.done { fill: #6286b0 } .skipped { fill: #4a525e } .failed { fill: #f0476f }
.inside.on-failed { fill: #0b0e13 } .inside.on-cancelled { fill: #e6eaf0 }
.cancelled { fill: #14181f; stroke: #98a4b3 } .chain { stroke: #ff922b }
.critical.done { fill: #ff922b } .critical.skipped { fill: #94602f }
.critical.failed, .critical.cancelled { stroke: #ff922b }
}
"""


def svg(report: Report) -> str:
    """The task graph over time: a bar for each task, lines to what it waited for."""
    return _Picture(report).draw()


class _Picture:
    def __init__(self, report: Report) -> None:
        self.report = report
        self.records = _by_start(report)
        self.hops = critical_path(report)
        self.critical = {hop.record.name for hop in self.hops}
        self.row = {r.name: number for number, r in enumerate(self.records)}
        self.whole = max(report.seconds, 0.1)
        self.bottom = TOP + ROW * len(self.records) + 6

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.whole * (WIDTH - LEFT - RIGHT)

    def y(self, record: Record) -> float:
        """The middle of the record's row."""
        return TOP + ROW * self.row[record.name] + ROW / 2

    def draw(self) -> str:
        height = self.bottom + 30
        size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
        names = {"role": "img", "aria-labelledby": "title desc"}
        root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **names})
        heading = f"{self.report.command or 'Run'}: {_duration(self.report.seconds)}"
        add(root, "title", heading, id="title")
        add(root, "desc", self.describe(), id="desc")
        add(root, "style", STYLE)
        add(root, "rect", css="paper", width=WIDTH, height=height)
        add(root, "text", heading, css="head", x=LEFT, y=36)
        machine = [f"{key} {value}" for key, value in self.report.machine.items()]
        when = f"{self.report.begun:%Y-%m-%d %H:%M %Z}".strip()
        add(root, "text", "  ·  ".join([when, *machine]), css="quiet", x=LEFT, y=57)
        self.legend(root)
        self.axis(root)
        for record in self.records:
            self.link(root, record)
        for hop in self.hops:
            self.chain(root, hop)
        for record in self.records:
            self.bar(root, record)
        ElementTree.indent(root, " ")
        return ElementTree.tostring(root, encoding="unicode") + "\n"

    def describe(self) -> str:
        chain = ", ".join(f"{hop.record.title} {hop.record.seconds:.1f} s" for hop in self.hops)
        return f"{summary(self.report)} In order: {chain}."

    def legend(self, root: ElementTree.Element) -> None:
        states = {r.state for r in self.records if r.name not in self.critical}
        entries = [("critical done", "critical path: the end waited for these")]
        entries += [
            (state, meaning)
            for state, meaning in (
                (State.DONE, "done"),
                (State.SKIPPED, "found its work done"),
                (State.FAILED, "failed"),
                (State.CANCELLED, "cancelled"),
            )
            if state in states or any(r.state is state for r in self.records)
        ]
        x = float(LEFT)
        for css, meaning in entries:
            add(root, "rect", css=css, x=x, y=72, width=18, height=BAR, rx=2.5)
            add(root, "text", meaning, css="quiet", x=x + 25, y=83)
            x += 25 + len(meaning) * CHARACTER * 0.92 + 22
        add(root, "path", css="link", d=f"M{x:.1f} 73 v6 h18")
        add(root, "text", "waited for", css="quiet", x=x + 25, y=83)

    def axis(self, root: ElementTree.Element) -> None:
        steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
        step = next((s for s in steps if self.whole / s <= 12), 3600)
        for number in range(int(self.whole / step) + 1):
            at = number * step
            x = round(self.x(at), 1)
            label = (
                f"{round(at, 2):g} s" if self.whole < MINUTES else f"{at // 60}:{at % 60:02} min"
            )
            add(root, "line", css="grid", x1=x, x2=x, y1=TOP - 4, y2=self.bottom)
            for y in (TOP - 9, self.bottom + 15):
                add(root, "text", label, css="quiet", x=x, y=y, **{"text-anchor": "middle"})

    def link(self, root: ElementTree.Element, record: Record) -> None:
        """From the end of the dependency that ended last, down, then right to the bar."""
        before = blocker(record, self.records)
        if before is None or record.started is None or record.name in self.critical:
            return
        down = f"M{self.x(before.ended or 0.0):.1f} {self.y(before):.1f} V{self.y(record):.1f}"
        add(root, "path", css="link", d=f"{down} H{self.x(record.started):.1f}")

    def chain(self, root: ElementTree.Element, hop: Hop) -> None:
        start = hop.record.started or 0.0
        before = blocker(hop.record, self.records)
        down = f"V{self.y(hop.record):.1f} H{self.x(start):.1f}"
        top = self.y(before or hop.record)
        add(root, "path", css="chain", d=f"M{self.x(start - hop.gap):.1f} {top:.1f} {down}")

    def bar(self, root: ElementTree.Element, record: Record) -> None:
        critical = record.name in self.critical
        group = add(root, "g")
        add(group, "title", self.tooltip(record))
        begin, end = self.x(record.started or 0.0), self.x(record.ended or 0.0)
        width = max(end - begin, 2.5)
        middle = self.y(record)
        if record.started is None:
            begin, width = float(LEFT), 0.0
        else:
            css = f"critical {record.state}" if critical else str(record.state)
            at: dict[str, Any] = {"x": round(begin, 1), "y": middle - BAR / 2, "rx": 2.5}
            add(group, "rect", css=css, width=round(width, 1), height=BAR, **at)
        took = _duration(record.seconds) if record.started is not None else "not started"
        plainly = record.started is None or record.state in (State.DONE, State.SKIPPED)
        state = "" if plainly else f" ({record.state})"
        room = (len(record.title + state + took) + 2) * CHARACTER * (1.08 if critical else 1)
        css = "halo strong" if critical else "halo"
        where: dict[str, Any] = {"x": round(begin + width + 6, 1), "y": middle + 4}
        if begin + width + 6 + room > WIDTH:
            if begin - 6 - room > 0:
                where |= {"x": round(begin - 6, 1), "text-anchor": "end"}
            else:
                css = f"inside on-{record.state}"
                where["x"] = round(begin + 6, 1)
        label = add(group, "text", f"{record.title}{state} ", css=css, **where)
        add(label, "tspan", took, css="" if css.startswith("inside") else "quiet")

    def tooltip(self, record: Record) -> str:
        if record.started is None:
            return f"{record.title}: never started"
        before = blocker(record, self.records)
        waited = f", waited for {before.title}" if before else ""
        error = f". {record.error}" if record.error else ""
        times = f"{record.started:.1f} s to {record.ended or 0.0:.1f} s"
        return f"{record.title}: {record.state}, {times} ({record.seconds:.1f} s){waited}{error}"


def _duration(seconds: float) -> str:
    if seconds < MINUTES:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
