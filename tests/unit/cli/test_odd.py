"""What nobody should type, everywhere: each ends in a sentence and an exit status of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import oddinput
import pytest
from nodes_kit import GIVEN

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import keep
from dozencloud.errors import Exit

MACHINE = {("up",), ("start",), ("destroy",), ("upgrade",), ("leave",), ("certs", "rotate")}
"""These have no words of a person's, and would change this machine."""
COMMANDS = [(path, command) for path, command in oddinput.leaves() if path not in MACHINE]
PLACES = ("no cloud", "stopped", "node")
MEASURES = ("bench", "--here")
"""Right words, which take 5 s, and find the same in each place."""


@pytest.fixture(params=PLACES, scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A root: with nothing in it, with a cloud that is stopped, with a node that is."""
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        root = Path(folder)
        if request.param != "no cloud":
            for name in ("etc", "lib", "log", "run"):
                (root / name).mkdir()
            (root / "etc" / "cloud.toml").write_text("")
            clouds = {"clouds": {"dozen": {"auth": {"password": "x"}}}}
            (root / "etc" / "clouds.yaml").write_text(json.dumps(clouds))
        if request.param == "node":
            keep(Cloud(root), GIVEN)
        yield root


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
def test_odd_words_end_in_a_sentence(
    place: Path, path: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    oddinput.forbid_exec(monkeypatch)
    for case in oddinput.cases(path, command):
        if case.words == MEASURES and any(place.iterdir()):
            continue
        wrong = oddinput.complaint(oddinput.run(place, case.words))
        assert not wrong, f"{path} {case.what}: {wrong}"


@pytest.mark.parametrize("words", [["--help"], ["config"], ["completion", "bash"], ["nonsense"]])
@pytest.mark.parametrize("way", [">&-", "<&-", "2>&-", ">/dev/full", "| true"])
def test_odd_ends_of_input_and_output(words: list[str], way: str) -> None:
    """Closed, full, or a pipe that nobody reads: no traceback, and a status that tells."""
    command = f'"$0" -I -m dozencloud "$@" {way}; echo "status ${{PIPESTATUS[0]}}" >&2'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, "--root", "/nowhere", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    status = int(done.stderr.rpartition("status ")[2])
    if words == ["nonsense"]:
        assert status == Exit.USAGE
    elif "full" in way:
        assert status == Exit.FAILED and "cannot be written" in done.stderr
    elif way != "| true":
        assert status == Exit.OK


ASKING = [
    ["openstack", "server", "list"],
    ["ssh", "first"],
    ["console", "--url", "first"],
    ["debug", "first"],
    ["bench", "first"],
    ["server", "explain", "first"],
    ["image", "list"],
    ["image", "get", "debian-13"],
    ["image", "import", __file__],
    ["image", "inspect", "00000000-0000-0000-0000-000000000000"],
    ["node", "list"],
    ["node", "token"],
    ["node", "show", "pi-1"],
    ["node", "drain", "pi-1"],
    ["node", "remove", "pi-1"],
    ["certs", "rotate"],
]


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is told so first")
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_what_asks_the_cloud_says_that_it_is_stopped_or_elsewhere(
    place: Path,
    words: list[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oddinput.forbid_exec(monkeypatch)
    where = request.node.callspec.params["place"]
    result = oddinput.run(place, words)
    lines = result.stderr.splitlines()
    if where == "stopped":
        assert lines == ["Error: The cloud is stopped.", f"Run: sudo ./dozen --root {place} start"]
        assert result.exit_code == Exit.DEGRADED
    elif where == "node":
        host = GIVEN.host
        assert lines[0] == f"Error: This machine is {GIVEN.node}, a node; the cloud is on {host}."
        assert lines[1].startswith(f"Run on {host}: sudo ./dozen")
    else:
        assert result.exit_code == Exit.NO_CLOUD
        assert lines[0].startswith("Error: There is no cloud")


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is told so first")
@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (["leave"], "leave"),
        (["upgrade"], "upgrade"),
        (["upgrade", "--back"], "upgrade"),
        (["certs", "rotate"], "rotate"),
    ],
)
def test_nobody_who_wants_to_be_rid_of_a_cloud_is_told_to_make_one(
    words: list[str], verb: str
) -> None:
    result = oddinput.run(Path("/nowhere"), words)
    assert result.exit_code == Exit.NO_CLOUD
    said = f"Error: There is no cloud under /nowhere, so there is nothing to {verb}."
    assert result.stderr.splitlines() == [said]


def empty_words() -> Iterator[tuple[str, ...]]:
    for path, command in oddinput.leaves():
        for case in oddinput.cases(path, command):
            if case.what.endswith(("''", "' '")):
                yield case.words


@pytest.mark.parametrize("words", [*empty_words()], ids=" ".join)
def test_an_empty_word_is_refused(words: tuple[str, ...]) -> None:
    """It comes of a variable that was never set, and must not mean: all of them, or none."""
    if words[0] == "openstack" or (words[0] == "ssh" and words[-2] == "x"):
        return  # other programs may take it
    result = oddinput.run(Path("/nowhere"), words)
    assert result.exit_code == Exit.USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is told so first")
@pytest.mark.parametrize("words", [["node", "token"], ["node", "tokens"], ["certs", "rotate"]])
def test_what_is_the_controllers_is_not_done_on_a_node(
    place: Path, words: list[str], request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["place"] == "node":
        assert f"This machine is {GIVEN.node}, a node" in oddinput.run(place, words).stderr
        assert not (place / "etc" / "nodes").exists()


def test_who_joins_without_root_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not `up`, which would make a second cloud."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = ["join", "https://192.0.2.1", "--token", "dz1.x", "--name", "pi-1"]
    result = oddinput.run(Path("/nowhere"), words)
    assert result.exit_code == Exit.UNFIT
    assert result.stderr.splitlines()[-1] == f"Run: sudo ./dozen --root /nowhere {' '.join(words)}"
