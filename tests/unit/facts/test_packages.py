"""The package system: what dpkg and apt-get really print."""

from __future__ import annotations

from pathlib import Path

from dozencloud.facts.packages import Audit, lock_holder, parse_audit, parse_check, parse_verify

DAMAGED = """\
The following packages are in a mess due to serious problems during
installation.  They must be reinstalled for them (and any packages
that depend on them) to function properly:
 nginx                small, powerful, scalable web/proxy server

"""
UNPACKED = """\
The following packages have been unpacked but not yet configured.
They must be configured using dpkg --configure or the configure
menu option in dselect for them to work:
 rabbitmq-server      AMQP server written in Erlang

"""
HALF_CONFIGURED = """\
The following packages are only half configured, probably due to problems
configuring them the first time.  The configuration should be retried using
dpkg --configure <package> or the configure menu option in dselect:
 mariadb-server       MariaDB database core server files
 libvirt-daemon-system Libvirt daemon configuration files

"""
TRIGGERED = """\
The following packages have been triggered, but the trigger processing
has not yet been done.  Trigger processing can be requested using
dselect or dpkg --configure --pending (or dpkg --triggers-only):
 libc-bin             GNU C Library: Binaries

"""
NO_CHECKSUMS = """\
The following packages are missing the md5sums control file in the
database, they need to be reinstalled:
 foo                  foo
 nginx                small, powerful, scalable web/proxy server

"""


def test_audit() -> None:
    assert parse_audit("") == Audit((), ())
    assert parse_audit(DAMAGED) == Audit((), ("nginx",))
    assert parse_audit(UNPACKED) == Audit(("rabbitmq-server",), ())
    assert parse_audit(HALF_CONFIGURED) == Audit(("mariadb-server", "libvirt-daemon-system"), ())
    assert parse_audit(NO_CHECKSUMS) == Audit((), ())
    assert parse_audit(DAMAGED + UNPACKED + TRIGGERED + NO_CHECKSUMS) == Audit(
        ("rabbitmq-server", "libc-bin"), ("nginx",)
    )


UNMET = """\
Reading package lists...
Building dependency tree...
Reading state information...
You might want to run 'apt --fix-broken install' to correct these.
The following packages have unmet dependencies:
 foo : Depends: nosuchthing (>= 2) but it is not installable
E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution).
"""


def test_check() -> None:
    assert parse_check(UNMET) == "foo : Depends: nosuchthing (>= 2) but it is not installable"
    reinstall = (
        "E: The package nginx needs to be reinstalled, but I can't find an archive for it.\n"
    )
    assert parse_check(reinstall) == reinstall[3:-1]
    assert parse_check("Reading package lists...\n") == ""


def test_verify() -> None:
    """As rpm 4.18 says it."""
    said = (
        "Unsatisfied dependencies for needs-1-1.noarch:\n\tnginx-core is needed by (installed) x\n"
    )
    assert parse_verify(said) == (
        "Unsatisfied dependencies for needs-1-1.noarch: nginx-core is needed by (installed) x"
    )
    assert parse_verify("") == ""


def test_nobody_locks_an_unused_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert lock_holder(lock) is None
    lock.touch()
    assert lock_holder(lock) is None
