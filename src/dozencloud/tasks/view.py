"""What a person sees while tasks run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from dozencloud import legible
from dozencloud.tasks.graph import Graph, Listener, Task
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState

REFRESH = 0.25  # s between two looks at whether the picture has changed
HEARTBEAT = 10.0  # s of silence after which the plain view says what runs

SYMBOLS = {
    TaskState.WAITING: ("○", "."),
    TaskState.RUNNING: ("●", ">"),
    TaskState.DONE: ("✓", "+"),
    TaskState.SKIPPED: ("=", "="),
    TaskState.FAILED: ("✗", "!"),
    TaskState.CANCELLED: ("-", "-"),
}
STYLES = {
    TaskState.WAITING: Style(dim=True),
    TaskState.RUNNING: Style(color="cyan"),
    TaskState.DONE: Style(color="green"),
    TaskState.SKIPPED: Style(color="green", dim=True),
    TaskState.FAILED: Style(color="red", bold=True),
    TaskState.CANCELLED: Style(dim=True),
}
HEAD, QUIET, NONE = Style(bold=True), Style(dim=True), Style()
FINISHED = (TaskState.DONE, TaskState.SKIPPED)

Line = list[tuple[str, Style]]


def make_listener(graph: Graph, console: Console | None = None, verbose: bool = False) -> Listener:
    """The live view where a cursor can move, else plain lines."""
    console = console or Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(graph, console, verbose)
    return PlainView(graph, console, verbose)


class _Ticker:
    """Calls `tick` every `seconds` on a thread of its own, until stopped."""

    def __init__(self, seconds: float, tick: Callable[[], None]) -> None:
        self._seconds, self._tick = seconds, tick
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)

    def start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._tick()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()


@dataclass
class _Row:
    """What the live view knows of one task."""

    task: Task
    state: TaskState = TaskState.WAITING
    since: float = 0.0
    seconds: float = 0.0
    note: str = ""


class PlainView:
    """A line when a task ends (verbose: also starts and notes), and one when nothing ends."""

    def __init__(self, graph: Graph, console: Console, verbose: bool = False) -> None:
        self._graph, self._console, self._verbose = graph, console, verbose
        self._origin = self._spoke = time.monotonic()
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ticker = _Ticker(1.0, self.heartbeat)

    def started(self, task: Task) -> None:
        with self._lock:
            self._running[task.name] = ""
            if self._verbose:
                self._say(f"{task.name}: started")
        self._ticker.start()

    def noted(self, task: Task, text: str) -> None:
        with self._lock:
            if task.name in self._running:
                self._running[task.name] = text
            if self._verbose:
                self._say(f"{task.name}: {text}")

    def ended(self, task: Task, record: TaskRecord) -> None:
        with self._lock:
            self._running.pop(task.name, None)
            if record.started is None:  # the last line counts those
                return
            what = "already done" if record.state is TaskState.SKIPPED else str(record.state)
            took = "" if record.state is TaskState.SKIPPED else f" ({record.seconds:.1f} s)"
            error = f": {record.error}" if record.error else ""
            self._say(f"{task.name}: {what}{took}{error}")

    def finished(self, report: RunReport) -> None:
        self._ticker.stop()
        with self._lock:
            self._say(totals(report))

    def heartbeat(self) -> None:
        """Say what runs, if nothing was said for long."""
        with self._lock:
            if self._running and time.monotonic() - self._spoke >= HEARTBEAT:
                names = (f"{n} ({note})" if note else n for n, note in self._running.items())
                self._say(f"running: {', '.join(names)}")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        line = f"[{self._spoke - self._origin:5.1f}s] {text}"
        self._console.out(_printable(line, self._console.encoding), highlight=False)


class LiveView:
    """Every task with its state, seconds, and what it waits for; fits any terminal."""

    def __init__(self, graph: Graph, console: Console, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._rows = {task.name: _Row(task) for task in graph.tasks}
        self._origin = time.monotonic()
        self._lock = threading.Lock()
        self._drawn: list[Line] = []
        self._report: RunReport | None = None
        self._unicode = console.encoding.lower().startswith("utf")
        self._live = Live(self, console=console, auto_refresh=False, vertical_overflow="crop")
        self._ticker = _Ticker(REFRESH, self.refresh)

    def started(self, task: Task) -> None:
        with self._lock:
            row = self._rows[task.name]
            row.state, row.since = TaskState.RUNNING, time.monotonic()
        if not self._live.is_started:
            self._live.start()
            self._ticker.start()

    def noted(self, task: Task, text: str) -> None:
        with self._lock:
            self._rows[task.name].note = text

    def ended(self, task: Task, record: TaskRecord) -> None:
        with self._lock:
            row = self._rows[task.name]
            row.state, row.seconds, row.note = record.state, record.seconds, record.error

    def finished(self, report: RunReport) -> None:
        self._ticker.stop()
        self._report = report
        self.refresh()
        self._live.stop()

    def refresh(self) -> None:
        """Draw, if anything that a person sees has changed."""
        if self._live.is_started and self.lines() != self._drawn:
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Segments at once: rich's tables and markup cost some ten times as much for each frame.
        self._drawn = self.lines()
        for number, line in enumerate(self._drawn):
            if number:
                yield Segment.line()
            for text, style in line:
                yield Segment(text, style)

    def lines(self) -> list[Line]:
        """The picture as it is now, cut to the terminal's size."""
        width, height = self._console.size
        with self._lock:
            rows = list(self._rows.values())
            if self._report:
                return self._last(self._report, width)
            states = [row.state for row in rows]
            seconds = time.monotonic() - self._origin
            parts = (
                f"{sum(s in FINISHED for s in states)} of {len(rows)} done",
                f"{states.count(TaskState.RUNNING)} running",
                f"{seconds:.0f} s",
            )
            stopping = ", stopping after a failure" if TaskState.FAILED in states else ""
            head = self._cut([(", ".join(parts) + stopping, HEAD)], width)
            # One line less than the terminal has: in the last one the cursor stands.
            return [head, *self._body(rows, width, max(height - 2, 1))]

    def _last(self, report: RunReport, width: int) -> list[Line]:
        """What stays on the screen: failures and the totals; all tasks if verbose."""
        rows = self._rows.values()
        shown = [r for r in rows if self._verbose or r.state is TaskState.FAILED]
        total = self._cut([(totals(report), HEAD)], width)
        return [*(self._line(row, width) for row in shown), total]

    def _body(self, rows: list[_Row], width: int, room: int) -> list[Line]:
        """Rows in the graph's order; what does not fit is counted, running tasks last of all."""
        if len(rows) <= room:
            return [self._line(row, width) for row in rows]
        done = sorted((r for r in rows if r.state in FINISHED), key=lambda r: r.since + r.seconds)
        idle = [r for r in rows if r.state in (TaskState.WAITING, TaskState.CANCELLED)]
        busy = [r for r in rows if r.state in (TaskState.RUNNING, TaskState.FAILED)]
        hidden: dict[str, int] = {}
        for name, candidates in (
            ("done", done),
            ("more waiting", idle[::-1]),
            ("more running", busy[::-1]),
        ):
            over = len(rows) + len(hidden) - room
            if over <= 0 or not candidates:
                continue
            count = min(len(candidates), over + 1)  # the counting line needs room, too
            gone = {r.task.name for r in candidates[:count]}
            rows = [r for r in rows if r.task.name not in gone]
            hidden[name] = count
        states = {
            "done": TaskState.DONE,
            "more waiting": TaskState.WAITING,
            "more running": TaskState.RUNNING,
        }
        counts = {n: [self._mark(states[n]), (f"{c} {n}", QUIET)] for n, c in hidden.items()}
        top = [counts.pop("done")] if "done" in counts else []
        lines = [*top, *(self._line(row, width) for row in rows), *counts.values()]
        return [self._cut(line, width) for line in lines[:room]]

    def _line(self, row: _Row, width: int) -> Line:
        style = STYLES[row.state]
        # Half of the line for the title, at most 40 columns; "1234 s" for the time.
        column = min(40, width // 2, max(cell_len(r.task.title) for r in self._rows.values()))
        title = self._legible(row.task.title)
        title += " " * (column - cell_len(title))
        seconds = ""
        if row.state is TaskState.RUNNING:
            seconds = f"{time.monotonic() - row.since:.0f} s"
        elif row.seconds or row.state is TaskState.DONE:
            seconds = f"{row.seconds:.1f} s"
        line: Line = [
            self._mark(row.state),
            *self._cut([(title, style if style.dim else NONE)], column),
            (f" {seconds:>7}  ", NONE if row.state is TaskState.RUNNING else QUIET),
            (self._legible(self._about(row)), style if row.state is TaskState.FAILED else QUIET),
        ]
        return self._cut(line, width)

    def _about(self, row: _Row) -> str:
        if row.state is TaskState.SKIPPED:
            return "already done"
        if row.state is not TaskState.WAITING:
            return row.note
        needed = [self._rows[name] for name in row.task.after]
        names = [r.task.title for r in needed if r.state not in FINISHED]
        return f"after {', '.join(names)}" if names else "for a free worker"

    def _mark(self, state: TaskState) -> tuple[str, Style]:
        return f"{SYMBOLS[state][0 if self._unicode else 1]} ", STYLES[state]

    def _legible(self, text: str) -> str:
        return _printable(text, self._console.encoding)

    def _cut(self, line: Line, width: int) -> Line:
        """Shorten to `width` cells, with an ellipsis where something is missing."""
        result: Line = []
        for text, style in line:
            size = cell_len(text)
            if size > width:
                dots = "…" if self._unicode else "~"
                result.append((set_cell_size(text, max(0, width - 1)) + dots * (width > 0), style))
                break
            result.append((text, style))
            width -= size
        return result


def totals(report: RunReport) -> str:
    """The end of a run in one line."""
    states = [record.state for record in report.records]
    words = {TaskState.SKIPPED: "already done", TaskState.CANCELLED: "cancelled or not started"}
    counted = [
        s
        for s in (TaskState.DONE, TaskState.SKIPPED, TaskState.FAILED, TaskState.CANCELLED)
        if s in states
    ]
    parts = (f"{states.count(state)} {words.get(state, state)}" for state in counted)
    return f"{', '.join(parts) or 'nothing to do'} in {report.seconds:.1f} s"


def _printable(text: str, encoding: str) -> str:
    """One line, without orders to the terminal, and only what it can show."""
    return legible.line(text).encode(encoding, "replace").decode(encoding)
