"""The clock: may it be set, and who keeps it."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from dozencloud.facts import clock
from dozencloud.facts.capabilities import parse_lacking
from dozencloud.facts.clock import parse_settable

MODULE = importlib.import_module("dozencloud.facts.clock")
"""`facts.clock` is the function."""


@pytest.mark.parametrize(
    ("bounding", "settable"),
    [
        ("000001ffffffffff", True),
        ("000001fffdffffff", False),  # as under setpriv --bounding-set=-sys_time
        ("00000000a80425fb", False),  # Docker's default
        ("0000000002000000", True),
    ],
)
def test_settable(bounding: str, settable: bool) -> None:
    status = f"Name:\tpython3\nCapEff:\t0000000000000000\nCapBnd:\t{bounding}\nNoNewPrivs:\t0\n"
    assert parse_settable(status) is settable


@pytest.mark.parametrize(
    ("bounding", "lacking"),
    [
        ("000001ffffffffff", ()),
        ("000001fffeffffff", ("sys_resource",)),
        (
            "00000000a80425fb",  # Docker's default
            ("net_admin", "sys_ptrace", "sys_admin", "sys_nice", "sys_resource"),
        ),
    ],
)
def test_capabilities_that_root_lacks(bounding: str, lacking: tuple[str, ...]) -> None:
    assert parse_lacking(f"Name:\tpython3\nCapBnd:\t{bounding}\nCapAmb:\t0\n") == lacking


def test_a_program_that_keeps_the_clock_is_seen_and_ours_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "chronyd"
    program.symlink_to("/bin/cat")
    for environment, keeper in (({}, "chronyd"), ({"DOZEN_CLOUD": "dozen:/run/x"}, "")):
        with subprocess.Popen([program], env=environment, stdin=PIPE, stdout=PIPE) as running:
            assert running.stdin and running.stdout
            # Its name and environment are there a little after it was started.
            running.stdin.write(b"works\n")
            running.stdin.flush()
            running.stdout.readline()
            # The machine that tests may have one, too.
            monkeypatch.setattr(MODULE, "pids", lambda pid=running.pid: [pid])
            try:
                assert clock().keeper == keeper
            finally:
                running.kill()
