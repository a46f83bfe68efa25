"""The task graph: order, parallelism, failure, interruption, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from dozencloud.errors import Exit, Problem
from dozencloud.tasks.graph import TICK, Graph, RunFailed, Step, Task
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.started_names: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.ended_names: list[str] = []
        self.reports: list[RunReport] = []
        self.threads: set[threading.Thread] = set()

    def started(self, task: Task) -> None:
        self.threads.add(threading.current_thread())
        self.started_names.append(task.name)

    def noted(self, task: Task, text: str) -> None:
        self.threads.add(threading.current_thread())
        self.notes.append((task.name, text))

    def ended(self, task: Task, record: TaskRecord) -> None:
        self.threads.add(threading.current_thread())
        self.ended_names.append(task.name)

    def finished(self, report: RunReport) -> None:
        self.reports.append(report)


def nothing(step: Step) -> None:
    """A task that has nothing to do."""


def task(name: str, *after: str, run: Callable[[Step], None] = nothing) -> Task:
    return Task(name, name.title(), run, after)


def states(report: RunReport) -> dict[str, TaskState]:
    return {record.name: record.state for record in report.records}


def written(path: Path) -> Callable[[], bool]:
    """A probe: whether the file has content (a shell creates it before it writes)."""
    return lambda: path.exists() and path.stat().st_size > 0


def gone(pid: int, seconds: float = 2.0) -> bool:
    """Whether a process ends in time; a zombie has ended (its new parent may be slow to reap)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if fields[0] in "ZX":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def step() -> Step:
    return Step(StringIO())


# ---- construction ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task("a"), task("a")], "two tasks are named a"),
        ([task("a", "ghost", "wraith")], "a comes after unknown ghost, wraith"),
        ([task("../a")], "'../a' cannot be a file name"),
        ([task("a", "a")], "a → a"),
    ],
)
def test_construction_refuses(tasks: list[Task], message: str) -> None:
    with pytest.raises(ValueError, match=r"task|unknown") as caught:
        Graph(tasks)
    assert message in str(caught.value)


def test_cycle_is_named_and_bystanders_are_not() -> None:
    with pytest.raises(ValueError, match="wait for each other") as caught:
        Graph([task("root"), task("x", "root", "z"), task("y", "x"), task("z", "y")])
    assert {"x", "y", "z"} == set(str(caught.value).partition(": ")[2].split(" → "))


# ---- order and parallelism -------------------------------------------------------------------


def test_a_task_starts_after_all_that_it_needs(tmp_path: Path) -> None:
    heard = Heard()
    graph = Graph([task("d", "b", "c"), task("c", "a"), task("b", "a"), task("a")])
    report = graph.run(heard, log_dir=tmp_path)
    by_name = {r.name: r for r in report.records}
    assert [r.name for r in report.records] == ["d", "c", "b", "a"]
    for record in report.records:
        for needed in record.after:
            assert (by_name[needed].ended or 0) <= (record.started or 0)
    assert heard.ended_names[0] == "a"
    assert heard.ended_names[-1] == "d"
    assert heard.reports == [report]
    assert heard.threads == {threading.current_thread()}


def test_independent_tasks_overlap(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=5)

    def meet(step: Step) -> None:
        barrier.wait()

    report = Graph([task("a", run=meet), task("b", run=meet)]).run(Heard(), log_dir=tmp_path)
    assert set(states(report).values()) == {TaskState.DONE}


def test_workers_limit_parallelism(tmp_path: Path) -> None:
    lock = threading.Lock()

    def alone(step: Step) -> None:
        assert lock.acquire(blocking=False)
        time.sleep(0.005)
        lock.release()

    graph = Graph([task(f"t{n}", run=alone) for n in range(5)])
    assert set(states(graph.run(Heard(), log_dir=tmp_path, workers=1)).values()) == {TaskState.DONE}


def test_most_dependents_start_first_without_timings(tmp_path: Path) -> None:
    heard = Heard()
    tasks = [task("lonely"), task("one"), task("many"), task("x", "one")]
    tasks += [task("y", "many"), task("z", "y")]
    Graph(tasks).run(heard, log_dir=tmp_path, workers=1)
    assert heard.started_names == ["many", "one", "y", "lonely", "x", "z"]


def test_longest_path_starts_first_with_timings(tmp_path: Path) -> None:
    heard = Heard()
    tasks = [task("many"), task("y", "many"), task("z", "many"), task("slow")]
    took = {"many": 1.0, "y": 1.0, "z": 2.0, "slow": 9.0}
    records = tuple(TaskRecord(n, n, TaskState.DONE, 0.0, s) for n, s in took.items())
    previous = RunReport(datetime.now(UTC), "", {}, records)
    Graph(tasks, previous).run(heard, log_dir=tmp_path, workers=1)
    assert heard.started_names == ["slow", "many", "z", "y"]


def test_work_found_done_is_skipped_and_its_old_log_kept(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("earlier")

    def never(step: Step) -> None:
        raise AssertionError

    tasks = [
        Task("a", "A", never, done=lambda: True),
        Task("b", "B", nothing, ("a",), lambda: False),
    ]
    report = Graph(tasks).run(Heard(), log_dir=tmp_path)
    assert states(report) == {"a": TaskState.SKIPPED, "b": TaskState.DONE}
    assert (tmp_path / "a.log").read_text() == "earlier"


def test_a_large_graph_costs_little(tmp_path: Path) -> None:
    tasks = [task(f"t{n}", *([f"t{n - 7}"] if n >= 7 else [])) for n in range(200)]
    begun = time.process_time()
    report = Graph(tasks).run(Heard(), log_dir=tmp_path)
    assert set(states(report).values()) == {TaskState.DONE}
    assert time.process_time() - begun < 1.0


# ---- failure ---------------------------------------------------------------------------------


def test_failure_cancels_dependents_and_lets_running_tasks_finish(tmp_path: Path) -> None:
    def fail(step: Step) -> None:
        raise Problem("No disk.", "Buy one.", detail="ENOSPC", code=Exit.UNFIT)

    def finish(step: Step) -> None:
        step.until(lambda: "bad" in heard.ended_names, seconds=5, every=0.001)

    heard = Heard()
    tasks = [
        task("bad", run=fail),
        task("good", run=finish),
        task("later", "bad"),
        task("x", "good"),
    ]
    with pytest.raises(RunFailed) as caught:
        Graph(tasks).run(heard, log_dir=tmp_path)
    error = caught.value
    assert error.what == "Bad: No disk."
    assert error.mend == f"Buy one.\nThe task's whole log: {tmp_path / 'bad.log'}"
    assert (error.detail, error.code, error.title) == ("ENOSPC", Exit.UNFIT, "Bad")
    assert states(error.report) == {
        "bad": TaskState.FAILED,
        "good": TaskState.DONE,
        "later": TaskState.CANCELLED,
        "x": TaskState.CANCELLED,
    }
    later = next(r for r in error.report.records if r.name == "later")
    assert (later.started, later.ended, later.seconds) == (None, None, 0.0)
    assert heard.reports == [error.report]


def test_after_the_grace_a_waiting_task_is_cancelled(tmp_path: Path) -> None:
    waiting = threading.Event()

    def fail(step: Step) -> None:
        waiting.wait(5)
        raise Problem("No.")

    def wait(step: Step) -> None:
        waiting.set()
        step.until(lambda: "Godot", seconds=60)

    begun = time.monotonic()
    with pytest.raises(RunFailed) as caught:
        Graph([task("bad", run=fail), task("wait", run=wait)]).run(
            Heard(), log_dir=tmp_path, grace=0.05
        )
    assert time.monotonic() - begun < 2.0
    wait_record = caught.value.report.records[1]
    assert (wait_record.state, wait_record.note) == (TaskState.CANCELLED, "Godot")


def test_the_first_failure_is_the_one_that_is_raised(tmp_path: Path) -> None:
    heard = Heard()

    def first(step: Step) -> None:
        raise Problem("First.")

    def second(step: Step) -> None:
        step.until(lambda: "a" in heard.ended_names, seconds=5, every=0.001)
        raise Problem("Second.")

    with pytest.raises(RunFailed) as caught:
        Graph([task("b", run=second), task("a", run=first)]).run(heard, log_dir=tmp_path)
    assert caught.value.what == "A: First."
    assert [r.error for r in caught.value.report.records] == ["Second.", "First."]


def test_an_unexpected_exception_becomes_a_problem_with_traceback_in_the_log(
    tmp_path: Path,
) -> None:
    def buggy(step: Step) -> None:
        step.log.write("before\n")
        raise KeyError("flavor")

    with pytest.raises(RunFailed, match="KeyError: 'flavor'") as caught:
        Graph([task("a", run=buggy)]).run(Heard(), log_dir=tmp_path)
    assert isinstance(caught.value.__cause__, Problem)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)
    log = (tmp_path / "a.log").read_text()
    assert log.startswith("before\n")
    assert "Traceback" in log
    assert "in buggy" in log
    assert caught.value.log == tmp_path / "a.log"


def test_what_a_task_was_refused_is_said_as_everywhere(tmp_path: Path) -> None:
    def refused(step: Step) -> None:
        raise KeyError("flavor")

    def words(error: BaseException) -> Problem | None:
        return Problem("Known.") if isinstance(error, KeyError) else None

    with pytest.raises(RunFailed) as caught:
        Graph([task("a", run=refused)]).run(Heard(), log_dir=tmp_path, refusal=words)
    assert caught.value.what == "A: Known."
    assert "Traceback" in (tmp_path / "a.log").read_text()

    def full(step: Step) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunFailed, match="The disk is full"):
        Graph([task("a", run=full)]).run(Heard(), log_dir=tmp_path)


def test_an_exception_in_the_check_is_a_failure_too(tmp_path: Path) -> None:
    def broken() -> bool:
        raise OSError("disk on fire")

    with pytest.raises(RunFailed, match="disk on fire"):
        Graph([Task("a", "A", nothing, done=broken)]).run(Heard(), log_dir=tmp_path)
    assert "disk on fire" in (tmp_path / "a.log").read_text()


def test_a_broken_listener_stops_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    pids: list[int] = []

    def child(step: Step) -> None:
        step.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"])

    class Broken(Heard):
        def noted(self, task: Task, text: str) -> None:
            raise BrokenPipeError

    def tell(step: Step) -> None:
        step.until(written(tmp_path / "pid"), seconds=5, every=0.01)
        pids.append(int((tmp_path / "pid").read_text()))
        step.note("hello")

    with pytest.raises(BrokenPipeError):
        Graph([task("a", run=child), task("b", run=tell)]).run(Broken(), log_dir=tmp_path)
    assert gone(pids[0])


# ---- interruption ----------------------------------------------------------------------------


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Signals as in a terminal; whoever started the tests may ignore some (nohup)."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


interrupted = pytest.mark.usefixtures("heard_signals")


@interrupted
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_kills_the_whole_process_group(tmp_path: Path, number: signal.Signals) -> None:
    pids: list[int] = []
    kept = signal.getsignal(number)

    def family(step: Step) -> None:
        # The grandchild ignores SIGTERM; only a kill of the group reaches it.
        script = "(trap '' TERM; while :; do sleep 0.1; done) & echo $! > g; echo $$ > p; wait"
        step.run(["sh", "-c", script], cwd=tmp_path)

    def interrupt(step: Step) -> None:
        step.until(written(tmp_path / "p"), seconds=5, every=0.01)
        pids.extend(int((tmp_path / name).read_text()) for name in "gp")
        os.kill(os.getpid(), number)
        step.until(lambda: False, seconds=60)

    tasks = [task("a", run=family), task("b", run=interrupt), task("c", "a")]
    begun = time.monotonic()
    with pytest.raises(RunFailed) as caught:
        Graph(tasks).run(Heard(), log_dir=tmp_path)
    assert time.monotonic() - begun < 4.0
    assert caught.value.code == Exit.INTERRUPTED == 130
    assert "A, B" in caught.value.what
    assert set(states(caught.value.report).values()) == {TaskState.CANCELLED}
    assert all(gone(pid) for pid in pids)
    assert signal.getsignal(number) == kept


@interrupted
def test_a_second_interrupt_kills_what_ignores_the_first(tmp_path: Path) -> None:
    def stubborn(step: Step) -> None:
        script = "trap '' TERM; echo $$ > p; while :; do sleep 0.1; done"
        step.run(["sh", "-c", script], cwd=tmp_path)

    def interrupt(step: Step) -> None:
        step.until(written(tmp_path / "p"), seconds=5, every=0.01)
        os.kill(os.getpid(), signal.SIGINT)
        step.cancel.wait(5)
        again.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    again: list[float] = []
    with pytest.raises(RunFailed) as caught:
        Graph([task("a", run=stubborn), task("b", run=interrupt)]).run(Heard(), log_dir=tmp_path)
    assert time.monotonic() - again[0] < 1.8  # without the second: TERM_GRACE
    assert caught.value.code == Exit.INTERRUPTED
    assert gone(int((tmp_path / "p").read_text()))


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = task("a", run=lambda step: os.kill(os.getpid(), signal.SIGHUP))
        report = Graph([hang_up, task("b", "a")]).run(Heard(), log_dir=tmp_path)
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert set(states(report).values()) == {TaskState.DONE}


# ---- Step ------------------------------------------------------------------------------------


def test_until_passes_on_what_the_probe_waits_for() -> None:
    answers = iter([None, "port", "port", "", False, "banner", True])
    notes: list[str] = []
    Step(StringIO(), notes.append).until(lambda: next(answers), seconds=5, every=0.001)
    assert notes == ["port", "banner"]


def test_until_times_out_with_the_last_answer(step: Step) -> None:
    begun = time.monotonic()
    with pytest.raises(Problem) as caught:
        step.until(lambda: "refused", seconds=0.15, every=10, what="MariaDB")
    assert 0.14 < time.monotonic() - begun < 5.0
    assert caught.value.what == "MariaDB did not come up within 0.15 s."
    assert caught.value.detail == "refused"


def test_run_gives_output_and_logs_it(step: Step) -> None:
    result = step.run(
        ["sh", "-c", "cat; echo $EXTRA $HOME; echo oops >&2"], input="€\n", env={"EXTRA": "more"}
    )
    assert result.stdout == f"€\nmore {os.environ['HOME']}\n"
    assert result.stderr == "oops\n"
    assert isinstance(step.log, StringIO)
    log = step.log.getvalue()
    assert log.startswith("$ sh -c ")
    assert "€\n" in log
    assert "oops\n" in log


def test_run_feeds_more_than_a_pipe_holds(step: Step) -> None:
    text = "x" * 3_000_000
    assert step.run(["cat"], input=text).stdout == text


def test_run_survives_broken_and_split_utf8(step: Step) -> None:
    script = r"printf '\342\202'; sleep 0.05; printf '\254 \377'"
    assert step.run(["sh", "-c", script]).stdout == "€ �"


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["/bin/sh", "-c", "exit 3"], "sh ended with status 3."),
        (["sh", "-c", "kill -9 $$"], "sh was killed by signal 9."),
        (["/no/such/program"], "program did not start: No such file or directory"),
    ],
)
def test_run_says_how_a_command_failed(step: Step, argv: list[str], what: str) -> None:
    with pytest.raises(Problem) as caught:
        step.run(argv)
    assert caught.value.what.startswith(what)


def test_a_failed_command_brings_its_last_lines(step: Step) -> None:
    with pytest.raises(Problem) as caught:
        step.run(["sh", "-c", "seq 100; exit 1"])
    assert caught.value.detail.splitlines() == [str(n) for n in range(89, 101)]


def test_unchecked_failure_is_the_callers_business(step: Step) -> None:
    assert step.run(["sh", "-c", "exit 4"], check=False).returncode == 4


def test_run_times_out_and_kills_the_group(step: Step, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Problem, match=r"^sh did not finish within 0\.2 s\.") as caught:
        step.run(["sh", "-c", "sleep 60 & echo $! > pid; echo hi; wait"], timeout=0.2, cwd=tmp_path)
    assert time.monotonic() - begun < 2.0
    assert caught.value.detail == "hi"
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_command_that_leaves_a_daemon_ends_with_itself(step: Step, tmp_path: Path) -> None:
    """The daemon keeps our pipe open; waiting for the pipe's end would wait for the daemon."""
    begun = time.monotonic()
    result = step.run(["sh", "-c", "sleep 60 & echo $!"], timeout=20)
    daemon = int(result.stdout)
    assert time.monotonic() - begun < 10.0
    assert not gone(daemon, seconds=0.1)
    os.kill(daemon, signal.SIGKILL)


def test_run_returns_promptly_when_output_ends_with_the_process(step: Step) -> None:
    took = []
    for _ in range(10):
        begun = time.monotonic()
        step.run(["true"])
        took.append(time.monotonic() - begun)
    assert min(took) < TICK / 2


# ---- logs and the report ---------------------------------------------------------------------


def test_each_task_has_a_private_log_that_is_written_at_once(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(step: Step) -> None:
        step.log.write("line\n")
        seen.append((tmp_path / "logs" / "a.log").read_text())

    Graph([task("a", run=write)]).run(Heard(), log_dir=tmp_path / "logs")
    assert seen == ["line\n"]
    assert stat.S_IMODE((tmp_path / "logs" / "a.log").stat().st_mode) == 0o600


def test_report_survives_the_disk(tmp_path: Path) -> None:
    tasks = [task("a", run=lambda step: step.note("nearly")), task("b", "a")]
    report = Graph(tasks).run(
        Heard(), log_dir=tmp_path, command="dozen up", machine={"cpus": 2, "arch": "aarch64"}
    )
    path = tmp_path / "new" / "last.json"
    report.save(path)
    report.save(path)
    assert RunReport.from_json(path.read_text()) == report
    assert [p.name for p in path.parent.iterdir()] == ["last.json"]
    assert report.records[0].note == "nearly"
    assert report.seconds == report.records[1].ended


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"records": [{"state": "odd", "after": []}]}'])
def test_a_damaged_report_is_said_to_be_so(text: str) -> None:
    with pytest.raises(Problem, match="damaged"):
        RunReport.from_json(text)
