"""Tasks with dependencies, run in parallel, each with its own log and timing."""

from __future__ import annotations

import codecs
import math
import os
import queue
import re
import selectors
import shlex
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from dozencloud.errors import Exit, Problem, foreseen, unforeseen
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState

TICK = 0.1  # s; how soon a running command notices that the run stops
TERM_GRACE = 5.0  # s between SIGTERM and SIGKILL
LONGEST = 900.0
"""s that a command may take that has no time of its own; a small board needs minutes for much."""
TAIL = 12  # lines of a command's output that go into a Problem
DECODER = codecs.getincrementaldecoder("utf-8")


Refusal = Callable[[BaseException], Problem | None]


class RunFailed(Problem):
    """A run that did not reach its end. `log`: of the task that failed first, if one did."""

    def __init__(self, cause: Problem, report: RunReport, title: str, log: Path | None) -> None:
        # Each on a line of its own: the first may be a command, to be copied.
        mend = f"{cause.mend}\nThe task's whole log: {log}".strip() if log else cause.mend
        what = f"{title}: {cause.what}" if title else cause.what
        super().__init__(what, mend, detail=cause.detail, code=cause.code)
        self.report, self.title, self.log = report, title, log


class Cancelled(BaseException):
    """Raised inside a task when the run stops; not an Exception, so that no task swallows it."""


@dataclass
class Step:
    """What a task's function gets: a way to say what it waits for, a log, commands, patience."""

    log: TextIO
    noted: Callable[[str], None] = lambda text: None
    cancel: threading.Event = field(default_factory=threading.Event)
    kill: threading.Event = field(default_factory=threading.Event)
    """Set when even the seconds between SIGTERM and SIGKILL are too long."""
    _last: str = ""

    def note(self, text: str) -> None:
        """Say what this task waits for right now."""
        if text != self._last:
            self._last = text
            self.noted(text)

    def until(
        self,
        probe: Callable[[], bool | str | None],
        *,
        seconds: float,
        every: float = 0.1,
        what: str = "It",
    ) -> None:
        """Ask `probe` until it says True; a text means "not yet" and becomes the note.

        `what` is the subject of the sentence said in the end: "`what` did not come up within …".
        """
        deadline = time.monotonic() + seconds
        seen = ""
        while (answer := probe()) is not True:
            if isinstance(answer, str) and answer:
                seen = answer
                self.note(answer)
            if time.monotonic() >= deadline:
                raise Problem(f"{what} did not come up within {seconds:g} s.", detail=seen)
            if self.cancel.wait(min(every, max(0.0, deadline - time.monotonic()))):
                raise Cancelled

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = LONGEST,
        check: bool = True,
        cwd: Path | str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, its output into the log; `env` is added to our own environment.

        A command that fails, is too slow or is cancelled takes its whole process group with it;
        what a successful one left running (a daemon) stays.
        """
        if self.cancel.is_set():
            raise Cancelled
        name = Path(argv[0]).name
        self.log.write(f"$ {shlex.join(argv)}\n")
        # In memory: input may hold passwords, and may be larger than a pipe.
        with os.fdopen(os.memfd_create("input"), "w+", encoding="utf-8") as stdin:
            stdin.write(input or "")
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                what = f"{name} did not start: {error.strerror} ({error.filename})."
                raise Problem(what) from error
        try:
            out, err, tail, late = self._follow(process, timeout)
        except BaseException:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            raise
        code = process.returncode
        if late:
            raise Problem(f"{name} did not finish within {timeout:g} s.", detail=tail)
        if self.cancel.is_set() and code:
            raise Cancelled
        if check and code:
            _signal_group(process, signal.SIGKILL)
            how = f"ended with status {code}" if code > 0 else f"was killed by signal {-code}"
            raise Problem(f"{name} {how}.", detail=tail)
        return subprocess.CompletedProcess(argv, code, out, err)

    def _follow(self, process: subprocess.Popen[bytes], limit: float) -> tuple[str, str, str, bool]:
        """Copy output to the log until the process ends; stop it when cancelled or too slow.

        Ends with the process, not with its pipes: a daemon may have inherited those.
        """
        assert process.stdout and process.stderr  # noqa: S101  (for mypy)
        shown: list[str] = []
        limit += time.monotonic()
        late, kill_at = False, math.inf
        with selectors.DefaultSelector() as pipes, process.stdout, process.stderr:
            texts: dict[IO[bytes], list[str]] = {process.stdout: [], process.stderr: []}
            for pipe in texts:
                pipes.register(pipe, selectors.EVENT_READ, DECODER(errors="replace"))
            while True:
                if not pipes.get_map():
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(TICK)
                over = process.poll() is not None
                ready = pipes.select(0 if over else TICK) if pipes.get_map() else []
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    text = key.data.decode(data, final=not data)
                    self.log.write(text)
                    shown.append(text)
                    texts[key.fileobj].append(text)  # type: ignore[index]
                    if not data:
                        pipes.unregister(key.fileobj)
                if over and not ready:
                    break
                now = time.monotonic()
                if kill_at == math.inf and not over and (self.cancel.is_set() or now > limit):
                    late, kill_at = now > limit, now + TERM_GRACE
                    _signal_group(process, signal.SIGTERM)
                if now > kill_at or (kill_at < math.inf and self.kill.is_set()):
                    _signal_group(process, signal.SIGKILL)
        if kill_at < math.inf:
            _signal_group(process, signal.SIGKILL)
        out, err = ("".join(chunks) for chunks in texts.values())
        return out, err, "\n".join("".join(shown).splitlines()[-TAIL:]), late


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@dataclass(frozen=True)
class Task:
    """One idempotent piece of work. `done`: cheap check; true means nothing is left to do."""

    name: str
    title: str
    run: Callable[[Step], None]
    after: tuple[str, ...] = ()
    done: Callable[[], bool] | None = None


class Listener(Protocol):
    """Hears what happens, always on the thread that called `Graph.run`."""

    def started(self, task: Task) -> None: ...
    def noted(self, task: Task, text: str) -> None: ...
    def ended(self, task: Task, record: TaskRecord) -> None: ...
    def finished(self, report: RunReport) -> None: ...


class Graph:
    """Tasks in an order in which each comes after what it needs."""

    def __init__(self, tasks: Iterable[Task], previous: RunReport | None = None) -> None:
        """`previous`: an earlier run, whose timings say which tasks are urgent."""
        self.tasks = tuple(tasks)
        names = [task.name for task in self.tasks]
        for task in self.tasks:
            if names.count(task.name) > 1:
                raise ValueError(f"two tasks are named {task.name}")
            if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", task.name):
                raise ValueError(f"task name {task.name!r} cannot be a file name")
            if unknown := set(task.after).difference(names):
                raise ValueError(f"{task.name} comes after unknown {', '.join(sorted(unknown))}")
        try:
            order = [*TopologicalSorter({t.name: t.after for t in self.tasks}).static_order()]
        except CycleError as error:
            raise ValueError(f"tasks wait for each other: {' → '.join(error.args[1])}") from error
        self.urgent = self._by_urgency(order, previous)

    def _by_urgency(self, order: list[str], previous: RunReport | None) -> list[Task]:
        """Longest path to the end first; without timings, the most dependents first."""
        ran = (
            {r.name: r.seconds for r in previous.records if r.state == TaskState.DONE}
            if previous
            else {}
        )
        usual = sum(ran.values()) / len(ran) if ran else 0.0
        behind: dict[str, set[str]] = {name: set() for name in order}
        path = {name: ran.get(name, usual) for name in order}
        after = {task.name: task.after for task in self.tasks}
        for name in reversed(order):
            for needed in after[name]:
                behind[needed] |= behind[name] | {name}
                path[needed] = max(path[needed], ran.get(needed, usual) + path[name])
        return sorted(self.tasks, key=lambda t: (-path[t.name], -len(behind[t.name])))

    def run(
        self,
        listener: Listener,
        *,
        log_dir: Path,
        workers: int = 16,
        grace: float = 10.0,
        command: str = "",
        machine: Mapping[str, Any] | None = None,
        refusal: Refusal = lambda error: None,
    ) -> RunReport:
        """Run every task; raises RunFailed with the first failure, or when interrupted.

        After a failure, running tasks have `grace` seconds to finish before they are cancelled.
        refusal: a sentence for errors of what the tasks ask; None for those that it does not know.
        """
        begun = datetime.now(UTC)
        log_dir.mkdir(parents=True, exist_ok=True)
        run = _Run(self, listener, log_dir, workers, grace, refusal)
        with _signals(lambda: run.events.put(run.interrupted)):
            try:
                run.loop()
            finally:
                run.leave()
        report = RunReport(begun, command, machine or {}, run.close())
        # After a failure the terminal may be gone, and the failure is what must be heard.
        with suppress(*([OSError] if run.failure else [])):
            listener.finished(report)
        if run.failure:
            cause, failed = run.failure
            log = log_dir / f"{failed.name}.log" if failed else None
            raise RunFailed(cause, report, failed.title if failed else "", log) from cause
        return report


class _Run:
    """The state of one run. Tasks report through `events`, which only the caller's thread reads."""

    def __init__(
        self,
        graph: Graph,
        listener: Listener,
        log_dir: Path,
        workers: int,
        grace: float,
        refusal: Refusal,
    ) -> None:
        self.graph, self.listener, self.log_dir = graph, listener, log_dir
        self.workers, self.grace, self.refusal = workers, grace, refusal
        self.origin = time.monotonic()
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.running: dict[str, tuple[threading.Thread, float]] = {}
        self.records: dict[str, TaskRecord] = {}
        self.notes: dict[str, str] = {}
        self.cancel, self.kill = threading.Event(), threading.Event()
        self.failure: tuple[Problem, Task | None] | None = None
        self.cancel_at = self.leave_at = math.inf

    def now(self) -> float:
        return time.monotonic() - self.origin

    def loop(self) -> None:
        while self.now() < self.leave_at:
            if self.failure is None:
                self.start_ready()
            if not self.running:
                return
            wait = min(self.cancel_at, self.leave_at) - self.now()
            try:
                event = self.events.get(timeout=None if wait == math.inf else max(0.0, wait))
            except queue.Empty:
                self.cancel.set()
                self.cancel_at = math.inf
            else:
                event()

    def start_ready(self) -> None:
        for task in self.graph.urgent:
            if len(self.running) >= self.workers:
                return
            begun = task.name in self.records or task.name in self.running
            if not begun and all(name in self.records for name in task.after):
                # A daemon thread: one that hangs must not keep the program from ending.
                thread = threading.Thread(target=self.work, args=(task,), daemon=True)
                self.running[task.name] = thread, self.now()
                self.listener.started(task)
                thread.start()

    def work(self, task: Task) -> None:
        """The body of a task's thread."""
        path = self.log_dir / f"{task.name}.log"
        problem: Problem | None = None
        try:
            if task.done is not None and task.done():
                state = TaskState.SKIPPED
            else:
                noted = partial(self.noted, task)
                with open(path, "w", 1, "utf-8", opener=_private) as log:
                    task.run(Step(log, noted, self.cancel, self.kill))
                state = TaskState.DONE
        except Cancelled:
            state = TaskState.CANCELLED
        except Problem as error:
            state, problem = TaskState.FAILED, error
        except BaseException as error:
            state = TaskState.FAILED
            problem = foreseen(error) or self.refusal(error) or unforeseen(error)
            with suppress(OSError), open(path, "a", opener=_private) as log:
                traceback.print_exc(file=log)
        self.events.put(partial(self.ended, task, state, self.now(), problem))

    def noted(self, task: Task, text: str) -> None:
        def tell() -> None:
            self.notes[task.name] = text
            self.listener.noted(task, text)

        self.events.put(tell)

    def ended(self, task: Task, state: TaskState, at: float, problem: Problem | None) -> None:
        thread, started = self.running.pop(task.name)
        thread.join()
        if problem and not self.failure:
            self.failure = problem, task
            self.cancel_at = self.now() + self.grace
        self.record(task, state, started, at, problem.what if problem else "")

    def record(
        self,
        task: Task,
        state: TaskState,
        started: float | None,
        ended: float | None,
        error: str = "",
    ) -> None:
        note = self.notes.get(task.name, "")
        record = TaskRecord(task.name, task.title, state, started, ended, task.after, note, error)
        self.records[task.name] = record
        self.listener.ended(task, record)

    def interrupted(self) -> None:
        """The first signal lets commands end by SIGTERM, the second kills them."""
        if not self.failure:
            names = ", ".join(t.title for t in self.graph.tasks if t.name in self.running)
            what = f"Stopped by a signal while at work on: {names}."
            mend = "The same command again continues where this one stopped."
            self.failure = Problem(what, mend, code=Exit.INTERRUPTED), None
        if self.cancel.is_set():
            self.kill.set()
            self.leave_at = self.now() + 2.0
        self.cancel.set()

    def leave(self) -> None:
        """Wait for tasks that the loop left behind: after a broken listener or a second signal."""
        self.cancel.set()
        if self.running:
            self.kill.set()
        for thread, _ in self.running.values():
            if thread.ident is not None:
                thread.join(timeout=2.0)

    def close(self) -> tuple[TaskRecord, ...]:
        """Every task's record, in the order of the graph; cancelled where there was none."""
        for task in self.graph.tasks:
            if task.name in self.running:
                started = self.running[task.name][1]
                self.record(task, TaskState.CANCELLED, started, self.now())
            elif task.name not in self.records:
                self.record(task, TaskState.CANCELLED, None, None)
        return tuple(self.records[task.name] for task in self.graph.tasks)


def _private(path: str, flags: int) -> int:
    """Logs hold command lines and their output, which may hold passwords."""
    return os.open(path, flags, 0o600)


@contextmanager
def _signals(interrupted: Callable[[], None]) -> Iterator[None]:
    """Turn the signals that end a program into a call; those that are ignored (nohup) stay so."""
    ours = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = {s: h for s in ours if (h := signal.getsignal(s)) not in (signal.SIG_IGN, None)}
    if threading.current_thread() is not threading.main_thread():
        kept = {}
    for number in kept:
        signal.signal(number, lambda *_: interrupted())
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
