"""The picture of a run: its tasks over time, and what each waited for."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from dozencloud.drawing import CHARACTER, WIDTH, add, finished, page, swatch
from dozencloud.tasks.timings import (
    Hop,
    RunReport,
    TaskRecord,
    TaskState,
    blocker,
    by_start,
    critical_path,
    summary,
)

LEFT, RIGHT = 28, 110  # px; right of the axis there is room for short labels
TOP, ROW, BAR = 116, 21, 13  # px
MINUTES = 180  # s; from here on times are written as minutes

STYLE = """
.link { stroke: #a6b1bf; fill: none } .strong { font-weight: 600 }
.chain { stroke: #d9480f; fill: none; stroke-width: 2 }
.inside { fill: #0b0e13 } .inside.on-failed { fill: #ffffff }
.done { fill: #9db8d6 } .skipped { fill: #c9ced6 } .failed { fill: #b3123c }
.cancelled { fill: #ffffff; stroke: #7b8794; stroke-dasharray: 3 2 }
.critical.done { fill: #e8590c } .critical.skipped { fill: #f5b58d }
.critical.failed, .critical.cancelled { stroke: #d9480f; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.link { stroke: #5d6b7e } .chain { stroke: #ff922b }
.inside.on-failed { fill: #0b0e13 } .inside.on-cancelled { fill: #e6eaf0 }
.done { fill: #6286b0 } .skipped { fill: #4a525e } .failed { fill: #f0476f }
.cancelled { fill: #14181f; stroke: #98a4b3 }
.critical.done { fill: #ff922b } .critical.skipped { fill: #94602f }
.critical.failed, .critical.cancelled { stroke: #ff922b }
}
"""


def svg(report: RunReport) -> str:
    """The task graph over time: a bar for each task, lines to what it waited for."""
    return _Picture(report).draw()


class _Picture:
    def __init__(self, report: RunReport) -> None:
        self.report = report
        self.records = by_start(report)
        self.hops = critical_path(report)
        self.critical = {hop.record.name for hop in self.hops}
        self.row = {r.name: number for number, r in enumerate(self.records)}
        self.whole = max(report.seconds, 0.1)
        self.bottom = TOP + ROW * len(self.records) + 6

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.whole * (WIDTH - LEFT - RIGHT)

    def y(self, record: TaskRecord) -> float:
        """The middle of the record's row."""
        return TOP + ROW * self.row[record.name] + ROW / 2

    def draw(self) -> str:
        heading = f"{self.report.command or 'Run'}: {_duration(self.report.seconds)}"
        root = page(heading, self.describe(), STYLE)
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
        return finished(root, self.bottom + 30)

    def describe(self) -> str:
        chain = ", ".join(f"{hop.record.title} {hop.record.seconds:.1f} s" for hop in self.hops)
        return f"{summary(self.report)} In order: {chain}."

    def legend(self, root: ElementTree.Element) -> None:
        entries = [("critical done", "critical path: the end waited for these")]
        entries += [
            (state, meaning)
            for state, meaning in (
                (TaskState.DONE, "done"),
                (TaskState.SKIPPED, "found its work done"),
                (TaskState.FAILED, "failed"),
                (TaskState.CANCELLED, "cancelled"),
            )
            if any(r.state is state for r in self.records)
        ]
        x = float(LEFT)
        for css, meaning in entries:
            swatch(root, css, x, 83)
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
                add(root, "text", label, css="quiet middle", x=x, y=y)

    def link(self, root: ElementTree.Element, record: TaskRecord) -> None:
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

    def bar(self, root: ElementTree.Element, record: TaskRecord) -> None:
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
        plainly = record.started is None or record.state in (TaskState.DONE, TaskState.SKIPPED)
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

    def tooltip(self, record: TaskRecord) -> str:
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
