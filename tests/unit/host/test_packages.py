"""Debian packages: which, what is missing, and what apt's messages mean."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts.system import SUPPORTED
from dozencloud.host import packages
from dozencloud.tasks.graph import Step

LIBVIRT_11 = {"libvirt-daemon-driver-storage", "libvirt-daemon-log"}


@pytest.mark.parametrize(
    ("distribution", "version", "machine", "extra"),
    [
        ("debian", "12", "x86_64", {"qemu-system-x86", "libvirt-daemon-system"}),
        ("debian", "12", "aarch64", {"libvirt-daemon-system"}),
        ("debian", "13", "x86_64", {"qemu-system-x86", *LIBVIRT_11}),
        ("debian", "13", "aarch64", LIBVIRT_11),
        (
            *("ubuntu", "24.04", "x86_64"),
            {"qemu-system-x86", "debian-archive-keyring", "libvirt-daemon-system"},
        ),
        ("ubuntu", "24.04", "aarch64", {"debian-archive-keyring", "libvirt-daemon-system"}),
        ("debian", "14", "riscv64", set()),
    ],
)
def test_wanted(distribution: str, version: str, machine: str, extra: set[str]) -> None:
    wanted = packages.wanted(distribution, version, machine)
    assert set(wanted) - {*packages.COMMON, *packages.CONTROL} == extra
    assert {*packages.COMMON, *packages.CONTROL} <= set(wanted)
    assert list(wanted) == sorted(set(wanted))
    node = packages.wanted(distribution, version, machine, control=False)
    assert set(wanted) - set(node) == set(packages.CONTROL)
    timed = packages.wanted(distribution, version, machine, time=True)
    assert set(timed) - set(wanted) == {packages.TIME}


def test_every_extra_is_for_a_supported_system() -> None:
    assert set(packages.BY_DISTRIBUTION) <= set(SUPPORTED)


def test_missing_of_what_is_there_and_what_is_not() -> None:
    assert packages.missing(("dpkg", "no-such-package", "base-files", "no-other")) == [
        "no-such-package",
        "no-other",
    ]


def test_installing_nothing_runs_nothing(tmp_path: Path) -> None:
    log, state = io.StringIO(), State(tmp_path / "state.json")
    packages.install(Step(log), ("dpkg",), state)
    assert log.getvalue() == ""
    assert not state.path.exists()


def test_what_a_system_cannot_do_without_is_not_removed() -> None:
    assert packages.removable(["dpkg", "coreutils", "e2fsprogs", "no-such-package"]) == []
    assert packages.removable(["python3-minimal"]) == ["python3-minimal"]


def test_apt_never_asks() -> None:
    words = packages.apt("install", "nginx")
    assert words[0] == "apt-get"
    assert words[-2:] == ["install", "nginx"]
    assert {"--assume-yes", "--no-install-recommends"} <= set(words)
    assert {"Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"} <= set(words)
    assert packages.APT_ENVIRONMENT["DEBIAN_FRONTEND"] == "noninteractive"


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
def test_explain(said: str, meant: str) -> None:
    problem = packages._explain(Problem("apt-get ended with status 100.", detail=said))
    assert meant in problem.what
    assert problem.mend
    assert problem.detail == said


def test_what_nobody_knows_stays_as_it_is() -> None:
    problem = Problem("apt-get ended with status 100.", detail="E: Something new")
    assert packages._explain(problem) is problem


def test_bindings_are_linked_once_and_again(tmp_path: Path) -> None:
    site = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    first = packages.link_bindings(tmp_path)
    assert packages.link_bindings(tmp_path) == first
    for link in first:
        assert link.parent == site
        assert link.is_symlink()
        assert link.resolve().parent == Path("/usr/lib/python3/dist-packages")


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
    assert packages._in_use() == set()
    (tmp_path / "booted").mkdir()
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert packages._in_use() == {"nginx.service", "memcached.service", "libvirtd.socket"}


def test_a_persons_own_units_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what an installation enabled is disabled; apt-get is left out."""
    states = iter([{"nginx.service"}, {"nginx.service", "rabbitmq-server.service"}])
    ran: list[list[str]] = []
    monkeypatch.setattr(packages, "_in_use", lambda: next(states))
    monkeypatch.setattr(packages, "missing", lambda names: ["rabbitmq-server"])
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy")
    monkeypatch.setattr(packages.machine, "RECORD", tmp_path / "record")
    step = Step(io.StringIO())
    monkeypatch.setattr(step, "run", lambda words, **_: ran.append(list(words)))
    packages.install(step, ("rabbitmq-server",), State(tmp_path / "state.json"))
    disabled = [words for words in ran if words[0] == "systemctl"]
    assert disabled == [["systemctl", "disable", "--now", "--quiet", "rabbitmq-server.service"]]
    assert packages.machine.packages() == ["rabbitmq-server"]
