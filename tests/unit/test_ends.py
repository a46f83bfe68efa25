"""Every program that is run has an end, and who waited for it is told."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from dozencloud.errors import Problem, foreseen
from dozencloud.tasks.graph import Graph, RunFailed, Step, Task
from dozencloud.tasks.timings import RunReport

SOURCES = Path(__file__).resolve().parents[2] / "src" / "dozencloud"
WAITING = {"run", "call", "check_call", "check_output"}
BY_ITSELF = {
    "tasks/graph.py",  # Step.run
    "guestbench/run.py",  # a timer
    "images/debian/root.py",  # a timer
    "images/inspection/confine.py",  # a deadline
    "host/network/portguard.py",  # communicate() with a limit; and a monitor, which is to stay
}
"""Where programs are started that somebody else sees the end of."""


def test_none_is_waited_for_without_a_limit() -> None:
    endless, started = [], set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) != "subprocess":
                continue
            if node.func.attr == "Popen":
                started.add(str(path.relative_to(SOURCES)))
            elif node.func.attr in WAITING:
                limits = [key for key in node.keywords if key.arg == "timeout"]
                if not limits or ast.unparse(limits[0].value) == "None":
                    endless.append(f"{path}:{node.lineno}")
    assert endless == []
    assert started == BY_ITSELF


class Nobody:
    """Listens to a run, and says nothing."""

    def started(self, task: Task) -> None: ...
    def noted(self, task: Task, text: str) -> None: ...
    def ended(self, task: Task, record: object) -> None: ...
    def finished(self, report: RunReport) -> None: ...


def test_what_did_not_end_is_named(tmp_path: Path) -> None:
    def wait(_step: Step) -> None:
        subprocess.run(["/bin/sleep", "60"], check=True, timeout=0.2)

    with pytest.raises(RunFailed) as failed:
        Graph([Task("wait", "Waiting", wait)]).run(Nobody(), log_dir=tmp_path)
    assert failed.value.what == "Waiting: sleep did not end within 0.2 s."
    with pytest.raises(subprocess.TimeoutExpired) as late:
        wait(Step((tmp_path / "log").open("w")))
    problem = foreseen(late.value)
    assert isinstance(problem, Problem)
    assert "sleep did not end" in problem.what
