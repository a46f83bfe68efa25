"""What a person sees: the live picture at several sizes, and the plain lines."""

from __future__ import annotations

import io
import re
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from dozencloud.errors import Problem
from dozencloud.tasks import view
from dozencloud.tasks.graph import Graph, RunFailed, Step, Task
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState
from dozencloud.tasks.view import LiveView, PlainView, make_listener


def nothing(step: Step) -> None:
    """A task that has nothing to do."""


def terminal(
    width: int = 80, height: int = 24, encoding: str = "utf-8", **environ: str
) -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    console = Console(
        file=file,
        width=width,
        height=height,
        force_terminal=True,
        record=True,
        _environ={"TERM": "xterm-256color", **environ},
    )
    return console, raw


def chain(count: int) -> Graph:
    """`count` tasks, each after the one before."""
    names = [f"t{n:02}" for n in range(count)]
    befores: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return Graph([Task(n, f"Task {n}", nothing, b) for n, b in zip(names, befores, strict=False)])


def record(task: Task, state: TaskState = TaskState.DONE, error: str = "") -> TaskRecord:
    return TaskRecord(task.name, task.title, state, 0.0, 1.5, task.after, "", error)


def text(live: LiveView) -> list[str]:
    return ["".join(part for part, _ in line).rstrip() for line in live.lines()]


@pytest.fixture
def quiet_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread and no cursor: the tests draw when they want to."""
    monkeypatch.setattr(view.Live, "start", lambda self, refresh=False: None)
    monkeypatch.setattr(view._Ticker, "start", lambda self: None)


# ---- which view ------------------------------------------------------------------------------


def test_a_terminal_gets_the_live_view() -> None:
    assert isinstance(make_listener(chain(1), terminal()[0]), LiveView)


def test_a_pipe_and_a_dumb_terminal_get_lines() -> None:
    pipe = Console(file=io.StringIO())
    assert isinstance(make_listener(chain(1), pipe), PlainView)
    assert isinstance(make_listener(chain(1), terminal(TERM="dumb")[0]), PlainView)


# ---- live ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet_live")
def test_each_state_says_what_it_waits_for() -> None:
    graph = Graph(
        [
            Task("db", "MariaDB", nothing),
            Task("mq", "RabbitMQ", nothing),
            Task("ca", "Certificates", nothing),
            Task("api", "Nova API", nothing, ("db", "mq", "ca")),
            Task("solo", "Solo", nothing),
        ]
    )
    live = LiveView(graph, terminal()[0])
    db, mq, ca, *_ = graph.tasks
    for task in (db, mq, ca):
        live.started(task)
    live.noted(mq, "waiting for port 5672")
    live.ended(db, record(db))
    live.ended(ca, record(ca, TaskState.SKIPPED))
    lines = text(live)
    assert re.fullmatch(r"2 of 5 done, 1 running, \d s", lines[0])
    assert re.fullmatch(r"✓ MariaDB +1\.5 s", lines[1])
    assert re.fullmatch(r"● RabbitMQ +\d s  waiting for port 5672", lines[2])
    assert re.fullmatch(r"= Certificates +1\.5 s  already done", lines[3])
    assert re.fullmatch(r"○ Nova API +after RabbitMQ", lines[4])
    assert re.fullmatch(r"○ Solo +for a free worker", lines[5])
    live.ended(mq, record(mq, TaskState.FAILED, "Port 5672 is taken."))
    lines = text(live)
    assert lines[0].endswith("stopping after a failure")
    assert re.fullmatch(r"✗ RabbitMQ +1\.5 s  Port 5672 is taken\.", lines[2])


@pytest.mark.usefixtures("quiet_live")
@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [3, 8, 12, 24, 60])
def test_the_picture_fits_and_shows_what_runs(width: int, height: int) -> None:
    graph = chain(35)
    live = LiveView(graph, terminal(width, height)[0])
    for task in graph.tasks[:20]:
        live.started(task)
        live.noted(task, "waiting for something with a long name, and 漢字 of double width" * 3)
    for task in graph.tasks[:17]:
        live.ended(task, record(task))
    lines = text(live)
    assert len(lines) < height
    assert all(cell_len(line) <= width for line in lines)
    if height >= 8:
        running = [line for line in lines if line.startswith("●")]
        assert [line.split()[2][:2] for line in running] == ["t1", "t1", "t1"]
    if height < 36:
        assert re.fullmatch(r"✓ \d+ done", lines[1])
    else:
        assert len(lines) == 36


@pytest.mark.usefixtures("quiet_live")
def test_what_is_hidden_is_counted() -> None:
    graph = chain(35)
    live = LiveView(graph, terminal(80, 10)[0])
    for task in graph.tasks[:6]:
        live.started(task)
    for task in graph.tasks[:4]:
        live.ended(task, record(task))
    lines = text(live)
    assert lines[1] == "✓ 4 done"
    assert [line[:10] for line in lines[2:4]] == ["● Task t04", "● Task t05"]
    hidden = int(lines[-1].split()[1])
    shown = sum(line.startswith("○ Task") for line in lines)
    assert lines[-1] == f"○ {hidden} more waiting"
    assert 4 + 2 + shown + hidden == 35


@pytest.mark.usefixtures("quiet_live")
def test_ascii_where_the_terminal_knows_no_more() -> None:
    graph = Graph([Task("a", "Caffè", nothing), Task("b", "B", nothing, ("a",))])
    live = LiveView(graph, terminal(30, encoding="ascii")[0])
    live.started(graph.tasks[0])
    live.noted(graph.tasks[0], "waiting for → the\x1b[2J very long\nend")
    joined = "\n".join(text(live))
    assert joined.isascii()
    assert "\x1b" not in joined
    assert "> Caff?" in joined
    assert joined.count("\n") == 2


def test_a_real_run_at_80_by_24(tmp_path: Path) -> None:
    console, raw = terminal()
    tasks = [Task(f"t{n}", f"Task {n}", lambda step: time.sleep(0.02)) for n in range(30)]
    tasks.append(Task("last", "The last", lambda step: time.sleep(0.6), ("t29",)))
    graph = Graph(tasks)
    before = threading.active_count()
    graph.run(make_listener(graph, console), log_dir=tmp_path)
    assert threading.active_count() == before
    written = re.sub(r"\x1b\[[0-9;]*m", "", raw.getvalue().decode())
    assert "● The last" in written
    total = re.search(r"31 done in (\d+\.\d) s", written)
    assert total
    assert written.endswith("\x1b[?25h")  # the cursor is back
    assert 1 <= written.count(" running, ") <= 5 * (float(total[1]) + 1)


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_left_out_on_request(
    tmp_path: Path, environ: dict[str, str], coloured: bool
) -> None:
    def fail(step: Step) -> None:
        raise Problem("No.")

    console, raw = terminal(**environ)
    graph = Graph([Task("a", "A", fail)])
    with pytest.raises(RunFailed):
        graph.run(make_listener(graph, console), log_dir=tmp_path)
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]", raw.getvalue())) is coloured
    assert "✗" in raw.getvalue().decode()


@pytest.mark.usefixtures("quiet_live")
def test_verbose_keeps_every_task_on_the_screen() -> None:
    graph = chain(30)
    short, full = (LiveView(graph, terminal()[0], verbose) for verbose in (False, True))
    report = RunReport(datetime.now(UTC), "", {}, tuple(record(task) for task in graph.tasks))
    for live in (short, full):
        for task in graph.tasks:
            live.started(task)
            live.ended(task, record(task))
        live.finished(report)
    assert text(short) == ["30 done in 1.5 s"]
    assert len(text(full)) == 31


# ---- plain -----------------------------------------------------------------------------------


def plain_lines(tmp_path: Path, tasks: list[Task], verbose: bool = False) -> list[str]:
    file = io.StringIO()
    graph = Graph(tasks)
    listener = make_listener(graph, Console(file=file, width=20), verbose)
    with suppress(RunFailed):
        graph.run(listener, log_dir=tmp_path)
    return file.getvalue().splitlines()


def test_a_line_when_a_task_ends(tmp_path: Path) -> None:
    tasks = [
        Task("mariadb", "MariaDB", lambda step: step.note("waiting for its socket")),
        Task("users", "Users", nothing, ("mariadb",), lambda: True),
    ]
    done, skipped, total = plain_lines(tmp_path, tasks)
    assert re.fullmatch(r"\[ +\d\.\ds\] mariadb: done \(\d\.\d s\)", done)
    assert re.fullmatch(r"\[ +\d\.\ds\] users: already done", skipped)
    assert re.fullmatch(r"\[ +\d\.\ds\] 1 done, 1 already done in \d\.\d s", total)


def test_verbose_also_starts_and_notes(tmp_path: Path) -> None:
    tasks = [Task("a", "A", lambda step: step.note("[red]for b[/red]\n\x1b[2J"))]
    lines = [line.partition("] ")[2] for line in plain_lines(tmp_path, tasks, verbose=True)]
    assert lines[:2] == ["a: started", "a: [red]for b[/red]\\n\\x1b[2J"]


def test_a_failure_is_said_and_the_unstarted_are_counted(tmp_path: Path) -> None:
    def fail(step: Step) -> None:
        raise Problem("The port 3306 is taken by another MariaDB of this machine.")

    lines = plain_lines(
        tmp_path, [Task("a", "A", fail), *(Task(n, n, nothing, ("a",)) for n in "bcd")]
    )
    assert re.search(
        r"a: failed \(\d\.\d s\): The port 3306 is taken by another Maria.+\.$", lines[0]
    )
    assert re.search(r"1 failed, 3 cancelled or not started in \d\.\d s$", lines[1])
    assert len(lines) == 2


def test_silence_is_broken_by_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    graph = chain(3)
    plain = PlainView(graph, Console(file=file))
    monkeypatch.setattr(view._Ticker, "start", lambda self: None)
    plain.started(graph.tasks[0])
    plain.noted(graph.tasks[0], "waiting for SSH")
    plain.started(graph.tasks[1])
    plain.heartbeat()
    assert file.getvalue() == ""
    monkeypatch.setattr(view, "HEARTBEAT", 0.0)
    plain.heartbeat()
    assert file.getvalue().endswith("running: t00 (waiting for SSH), t01\n")
