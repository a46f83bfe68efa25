"""The command line: help, exit statuses, how failures look."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from nodes_kit import GIVEN
from users_kit import dozen_as_nobody

from dozencloud.cli import EPILOG, cli, common
from dozencloud.cli.common import Invocation, Root
from dozencloud.cli.logs import follow
from dozencloud.cli.status import duration
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node
from dozencloud.cloud.settings import parse
from dozencloud.errors import Exit, Problem
from dozencloud.lifecycle import commands
from dozencloud.nodes.tokens import Token
from dozencloud.tasks.timings import RunReport, TaskRecord, TaskState
from dozencloud.verdicts import Level, Verdict


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: the path of a cloud must be short (Unix sockets).
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        yield Path(folder)


@pytest.fixture
def cloud(root: Path) -> Path:
    """What is on disk of a cloud that is stopped."""
    for name in ("etc", "lib", "log"):
        (root / name).mkdir()
    (root / "etc" / "cloud.toml").write_text("[gateway]\nport = 8443\n")
    options = {"auth": {"password": "a'b"}, "region_name": "R", "interface": "public"}
    text = json.dumps({"clouds": {"dozen": options}})
    (root / "etc" / "clouds.yaml").write_text(text)
    return root


def dozen(*words: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], env=env)


@pytest.mark.parametrize("name", [n for n in cli.commands if n != "openstack"])
def test_help_of_every_command(name: str) -> None:
    result = dozen(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: cli {name}" in result.output
    assert "Example" in result.output


def test_help_lists_commands_whole_and_every_exit_status() -> None:
    output = dozen("--help").output
    assert all(f"  {name} " in output for name in cli.commands)
    assert "..." not in output.partition("Commands:")[2]
    assert [int(line.split()[0]) for line in EPILOG.splitlines()[2:]] == [*map(int, Exit)]


def test_openstack_hands_help_on() -> None:
    """Without a cloud it says so, instead of showing a help of its own."""
    assert "Usage" not in dozen("--root", "/nowhere", "openstack", "--help").output


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--json"],
        ["logs", "keystone"],
        ["logs", "up"],
        ["env"],
        ["env", "--format", "yaml"],
        ["openstack", "server", "list"],
        ["timings"],
        ["timings", "--json"],
    ],
)
def test_without_a_cloud(root: Path, words: list[str]) -> None:
    result = dozen("--root", root, *words)
    assert result.exit_code == Exit.NO_CLOUD
    assert result.stdout == ""
    up = f"Run: sudo ./dozen --root {root} up"
    assert result.stderr.splitlines() == [f"Error: There is no cloud under {root}.", up]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("words", [["stop"], ["start"], ["restart", "x"], ["ssh", "first"]])
def test_without_a_cloud_as_root(root: Path, words: list[str]) -> None:
    assert dozen("--root", root, *words).exit_code == Exit.NO_CLOUD
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_destroy_finds_nothing(root: Path) -> None:
    result = dozen("--root", root, "destroy", "--yes")
    assert (result.exit_code, result.output) == (0, "There is nothing to remove.\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_destroy_does_not_act_when_nobody_can_answer(cloud: Path) -> None:
    result = dozen("--root", cloud, "destroy")
    assert result.exit_code == Exit.USAGE
    assert "destroy --yes" in result.stderr
    assert (cloud / "etc" / "cloud.toml").exists()


def test_a_root_without_a_name_is_not_the_current_folder() -> None:
    result = dozen("--root", "", "config")
    assert result.exit_code == Exit.USAGE
    assert "'--root': it is empty." in result.stderr


def test_root_from_the_environment(root: Path) -> None:
    assert str(root) in dozen("env", env={"DOZEN_ROOT": str(root)}).stderr


@pytest.mark.parametrize(
    "words",
    [
        *(["nope"], ["logs"], ["restart"], ["env", "--format", "x"], ["--root", "", "status"]),
        *(["logs", "keystone", "-n", lines] for lines in ("-5", "9" * 20)),
    ],
)
def test_wrong_words(words: list[str]) -> None:
    assert dozen(*words).exit_code == Exit.USAGE


def test_config_prints_settings_that_can_be_read_again(cloud: Path) -> None:
    import tomllib

    output = dozen("--root", cloud, "config").stdout
    assert output.startswith(f"# {cloud}/etc/cloud.toml\n")
    assert parse(tomllib.loads(output)).gateway.port == 8443


def test_a_mistake_in_the_settings(cloud: Path) -> None:
    (cloud / "etc" / "cloud.toml").write_text("[gateway]\nprt = 1\n")
    result = dozen("--root", cloud, "env")
    assert result.exit_code == Exit.USAGE
    assert "Did you mean port?" in result.stderr


def test_env_for_a_shell_and_as_yaml(cloud: Path) -> None:
    shell = dozen("--root", cloud, "env").stdout
    assert f"export OS_CLIENT_CONFIG_FILE={cloud}/etc/clouds.yaml" in shell
    assert "export OS_CLOUD=dozen" in shell
    yaml = dozen("--root", cloud, "env", "--format", "yaml").stdout
    assert json.loads(yaml)["clouds"]["dozen"]["region_name"] == "R"


def test_logs_shows_the_end_and_names_what_there_is(cloud: Path) -> None:
    node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)
    (cloud / "lib" / "node.json").write_text(json.dumps(asdict(node)))
    (cloud / "log" / "keystone.log").write_text("one\ntwo\nthree\n")
    assert dozen("--root", cloud, "logs", "keystone", "-n", "2").stdout == "two\nthree\n"
    unknown = dozen("--root", cloud, "logs", "keyston")
    assert unknown.exit_code == Exit.USAGE
    assert "keystone, libvirtd, mariadb" in unknown.stderr
    never = dozen("--root", cloud, "logs", "neutron").stderr.splitlines()
    assert never == [
        "Error: neutron was never started, so it has no log.",
        f"Run: sudo ./dozen --root {cloud} up",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("words", [("keystone", "--follow"), ("up", "neutron", "--lines", "7")])
def test_who_may_not_see_the_logs_is_not_told_that_there_are_none(
    cloud: Path, words: tuple[str, ...]
) -> None:
    cloud.chmod(0o755)
    (cloud / "log" / "keystone.log").touch()
    (cloud / "log").chmod(0o710)
    done = dozen_as_nobody(cloud, "logs", *words)
    run = f"Run: sudo ./dozen --root {cloud} logs {' '.join(words)}"
    assert done.stderr.splitlines() == ["Error: This needs root.", run]
    assert done.returncode == Exit.UNFIT


def test_who_is_not_root_is_told_the_whole_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    asked = dozen("--root", "/nowhere", "console", "--url", "first")
    assert asked.stderr.endswith("sudo ./dozen --root /nowhere console --url first\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_stopped_is_not_restarted(cloud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = SimpleNamespace(name="keystone")
    made = SimpleNamespace(services=[keystone], control_tasks=lambda: [])
    monkeypatch.setattr(commands, "make_plan", lambda *_: None)
    monkeypatch.setattr(commands, "Bringup", lambda *_: made)
    stopped = dozen("--root", cloud, "restart", "keystone")
    assert stopped.stderr.splitlines() == [
        "Error: The cloud is stopped.",
        f"Run: sudo ./dozen --root {cloud} start",
    ]
    assert stopped.exit_code == Exit.DEGRADED
    assert "Known: keystone." in dozen("--root", cloud, "restart", "keyston").stderr


def test_logs_of_the_last_run(cloud: Path) -> None:
    for run in ("20260101T000000Z", "20260102T000000Z"):
        folder = cloud / "log" / "up" / run
        folder.mkdir(parents=True)
        (folder / "mariadb.log").write_text(f"{run}\n")
    assert "mariadb" in dozen("--root", cloud, "logs", "up").stdout
    assert dozen("--root", cloud, "logs", "up", "mariadb").stdout == "20260102T000000Z\n"
    assert dozen("--root", cloud, "logs", "up", "x").exit_code == Exit.USAGE


def test_following_goes_on_after_rotation_and_truncation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n")
    lines = follow(log)
    # The generator opens the file at its first step, so that step must find something new.
    first = _next_after(lines, lambda: _append(log, "new\n"))
    assert first == "new\n"

    def rotate() -> None:
        _append(log, "last\n")
        log.rename(tmp_path / "a.log.1")
        log.write_text("rotated\n")

    rotate()
    assert [next(lines), _non_empty(lines)] == ["last\n", "rotated\n"]
    log.write_text("cut\n")
    assert _non_empty(lines) == "cut\n"


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _next_after(lines: Iterator[str], act: object) -> str:
    import threading

    timer = threading.Timer(0.1, act)  # type: ignore[arg-type]
    timer.start()
    try:
        return next(lines)
    finally:
        timer.join()


def _non_empty(lines: Iterator[str]) -> str:
    return next(text for text in lines if text)


def test_timings_table_json_and_picture(cloud: Path) -> None:
    from datetime import UTC, datetime

    record = TaskRecord("a", "Task A", TaskState.DONE, 0.0, 2.0)
    report = RunReport(datetime(2026, 1, 1, tzinfo=UTC), "dozen up", {}, (record,))
    report.save(cloud / "lib" / "timings.json")
    result = dozen("--root", cloud, "timings")
    assert "Task A" in result.stdout
    assert f"Picture: {cloud}/lib/timings.svg" in result.stdout
    assert "<svg" in (cloud / "lib" / "timings.svg").read_text()
    loaded = RunReport.from_json(dozen("--root", cloud, "timings", "--json").stdout)
    assert loaded == report
    assert dozen("--root", cloud, "timings", "--svg", "/nowhere/x.svg").exit_code == Exit.FAILED


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_DOZEN_COMPLETE" in dozen("completion", shell).stdout


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (72, "1m 12s"), (7500, "2h 5m"), (273600, "3d 4h")],
)
def test_duration(seconds: int, text: str) -> None:
    assert duration(seconds) == text


# ---- failures ------------------------------------------------------------------------------


def failing(error: BaseException, *, debug: bool = False) -> Result:
    @click.group(cls=Root)
    @click.pass_context
    def group(ctx: click.Context) -> None:
        ctx.obj = Invocation(debug=debug)

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"], color=True)


def test_a_problem_is_cause_detail_and_mend() -> None:
    problem = Problem("It broke.", "Mend it.", detail="one\ntwo", code=Exit.DEGRADED)
    result = failing(problem)
    assert result.exit_code == Exit.DEGRADED
    plain = click.unstyle(result.stderr).splitlines()
    assert plain == ["Error: It broke.", "    one", "    two", "Mend it."]
    assert result.stderr.startswith("\x1b[31m")


def test_what_nobody_foresaw_shows_its_place_under_debug_only() -> None:
    result = failing(ZeroDivisionError("by zero"))
    assert result.exit_code == Exit.FAILED
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in failing(ZeroDivisionError("by zero"), debug=True).stderr


def test_words_of_libraries_are_not_shown() -> None:
    """In a process of its own: pytest's listens to loggers."""
    program = """
import click, logging
from dozencloud.cli.common import Root

@click.group(cls=Root)
def group(): ...

@group.command()
def ask():
    logging.getLogger("keystoneauth.identity").warning("Failed to discover.")

group(["ask"])
"""
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_interrupted() -> None:
    assert failing(KeyboardInterrupt()).exit_code == Exit.INTERRUPTED


TOKEN = Token("0" * 64, "0" * 8, "0" * 48)
REPORT = RunReport(datetime(2026, 1, 1, tzinfo=UTC), "dozen up", {}, ())
DROPS = Verdict("forwarding", Level.WARN, "Docker drops what passes.", "Run: sudo iptables ...")


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("words", [["up"], ["join", "https://192.0.2.1", "--token", f"{TOKEN}"]])
def test_a_run_says_what_it_warns_of_and_how_long_one_waited(
    words: list[str], changed: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself is left out: it would make a cloud of this machine."""
    outcome = commands.Outcome(Cloud(root), REPORT, changed, warnings=(DROPS,))
    monkeypatch.setattr(commands, "up", lambda *_, **__: outcome)
    monkeypatch.setattr(commands, "join", lambda *_, **__: (outcome, GIVEN))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(common, "BEGAN", common.uptime() - 80)
    said = dozen("--root", root, *words).output
    assert "Warning: Docker drops what passes.\nRun: sudo iptables" in said
    assert re.search(r"\b8[0-9]\.[0-9] s", said), "what the launcher took counts, too"


def test_the_launchers_start_counts() -> None:
    program = "from dozencloud.cli import common; print(common.waited(), common.os.environ)"
    began = common.uptime() - 42
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        env={"DOZEN_BEGAN": str(began)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 42 <= float(done.stdout.split()[0]) < 60
    assert "DOZEN_BEGAN" not in done.stdout, "no service is to have it"
