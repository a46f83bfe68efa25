"""Installing packages with apt: what is missing, what is left alone, what its messages mean."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.host import packages
from dozencloud.host.distributions.debian import Debian
from dozencloud.host.packagemanagers import apt
from dozencloud.host.packagemanagers.dnf import Dnf
from dozencloud.tasks.graph import Step

APT = apt.Apt()


def test_missing_of_what_is_there_and_what_is_not() -> None:
    assert APT.missing(("dpkg", "no-such-package", "base-files", "no-other")) == [
        "no-such-package",
        "no-other",
    ]


def test_installing_nothing_runs_nothing(tmp_path: Path) -> None:
    log, state = io.StringIO(), State(tmp_path / "state.json")
    packages.install(Step(log), ("dpkg",), state, Debian("12"))
    assert log.getvalue() == ""
    assert not state.path.exists()


def test_what_a_system_cannot_do_without_is_not_removed() -> None:
    assert APT.removable(["dpkg", "coreutils", "e2fsprogs", "no-such-package"]) == []
    assert APT.removable(["python3-minimal"]) == ["python3-minimal"]


def test_apt_never_asks() -> None:
    words = APT.install(["nginx"])
    assert words[0] == "apt-get"
    assert words[-2:] == ["install", "nginx"]
    assert {"--assume-yes", "--no-install-recommends"} <= set(words)
    assert {"Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"} <= set(words)
    assert APT.environment["DEBIAN_FRONTEND"] == "noninteractive"


# As apt and dpkg of Debian 12 and 13 say it.
OFFLINE, SOURCES, FULL, BUSY, BROKEN = (
    "cannot be reached",
    "not in the enabled",
    "disk is full",
    "Another program",
    "broken state",
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary"
            " failure resolving 'deb.debian.org'",
            OFFLINE,
        ),
        ("Err:1 http://deb.debian.org trixie InRelease\n  Could not resolve 'x'", OFFLINE),
        ("Could not connect to 127.0.0.1:3142 (127.0.0.1). - connect (111)", OFFLINE),
        ("Unable to connect to deb.debian.org:http:", OFFLINE),
        ("E: Unable to locate package ovn-central", SOURCES),
        ("E: Package 'ovn-host' has no installation candidate", SOURCES),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", FULL),
        ("dpkg: error processing archive x.deb (--unpack):\n No space left on device", FULL),
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 8 (apt-get)",
            BUSY,
        ),
        (
            "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the"
            " problem.",
            BROKEN,
        ),
        ("E: Unmet dependencies. Try 'apt --fix-broken install' with no packages", BROKEN),
        ("The following packages have unmet dependencies:\n nginx : Depends: x", BROKEN),
        ("dpkg: error processing package nginx (--configure):", BROKEN),
    ],
)
def test_cause(said: str, meant: str) -> None:
    problem = APT.cause(Problem("apt-get ended with status 100.", detail=said))
    assert meant in problem.what
    assert problem.mend
    assert problem.detail == said


def test_what_nobody_knows_stays_as_it_is() -> None:
    problem = Problem("apt-get ended with status 100.", detail="E: Something new")
    assert APT.cause(problem) is problem


# systemctl of Debian 12 (systemd 252): `is-enabled` says nothing more after a unit that is not
# there, and `show` has a paragraph for each.
SYSTEMCTL = """#!/bin/sh
[ "$1" = show ] || exit 1
shift 2
for unit; do
    case $unit in
    nginx.service) echo "ActiveState=active"; echo "UnitFileState=enabled" ;;
    memcached.service) echo "ActiveState=inactive"; echo "UnitFileState=enabled" ;;
    libvirtd.socket) echo "ActiveState=active"; echo "UnitFileState=disabled" ;;
    ovn-host.service) echo "ActiveState=inactive"; echo "UnitFileState=disabled" ;;
    *) echo "ActiveState=inactive"; echo "UnitFileState=" ;;
    esac
    echo
done
"""


def test_units_that_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for systemd, which runs on no machine of the tests."""
    monkeypatch.setattr(packages, "BOOTED", tmp_path / "booted")
    assert packages.in_use(Debian.units) == set()
    (tmp_path / "booted").mkdir()
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert packages.in_use(Debian.units) == {
        "nginx.service",
        "memcached.service",
        "libvirtd.socket",
    }


def test_a_persons_own_units_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what an installation enabled is disabled; apt-get is left out."""
    states = iter([{"nginx.service"}, {"nginx.service", "rabbitmq-server.service"}])
    ran: list[list[str]] = []
    monkeypatch.setattr(packages, "in_use", lambda units: next(states))
    monkeypatch.setattr(apt.Apt, "missing", lambda self, names: ["rabbitmq-server"])
    monkeypatch.setattr(apt, "POLICY", tmp_path / "policy")
    monkeypatch.setattr(packages.machine, "RECORD", tmp_path / "record")
    step = Step(io.StringIO())
    monkeypatch.setattr(step, "run", lambda words, **_: ran.append(list(words)))
    packages.install(step, ("rabbitmq-server",), State(tmp_path / "state.json"), Debian("12"))
    disabled = [words for words in ran if words[0] == "systemctl"]
    assert disabled == [["systemctl", "disable", "--now", "--quiet", "rabbitmq-server.service"]]
    assert packages.machine.packages() == ["rabbitmq-server"]


def dnf_means(said: str) -> str:
    return Dnf().cause(Problem("dnf ended with status 1.", detail=said)).what


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        # dnf 4.14
        (
            "Errors during downloading metadata for repository 'fedora':\n  - Curl error (6):"
            " Couldn't resolve host name for https://mirrors.fedoraproject.org/metalink",
            OFFLINE,
        ),
        ("Error: Failed to download metadata for repo 'updates': Cannot prepare", OFFLINE),
        ("No match for argument: ovn\nError: Unable to find a match: ovn", "not in the enabled"),
        ("Error Summary\nAt least 1722MB more space needed on the / filesystem.", FULL),
        ("[Errno 28] No space left on device: '/var/cache/dnf/x'", FULL),
        ("Failed to obtain the transaction lock (logged in as: root).", BUSY),
        (
            "Error: \n Problem: package a-1 requires b, but none of the providers can be"
            " installed\n  - conflicting requests",
            BROKEN,
        ),
        # dnf 5, as quoted in its issues 2435, 538 and in others
        (
            "Transaction failed: Failed to obtain rpm transaction lock. Another transaction is in"
            " progress.",
            BUSY,
        ),
        ("Failed to resolve the transaction:\nNo match for argument: x", "not in the enabled"),
    ],
)
def test_what_dnf_means(said: str, meant: str) -> None:
    assert meant in dnf_means(said)


def test_what_keeps_fedoras_daemons_off() -> None:
    policy = Dnf().policy(("nginx.service", "epmd.socket"))
    assert str(policy.path).startswith("/run/systemd/system-preset/0")
    lines = [line for line in policy.text.splitlines() if not line.startswith("#")]
    assert lines == ["disable nginx.service", "disable epmd.socket"]
