"""Facts of a machine on which everything is good."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dozencloud.facts import Clock, Datapath, Disk, Facts, Kvm, KvmState, Memory
from dozencloud.facts.cpu import Cluster, Cpu
from dozencloud.facts.datapath import Network
from dozencloud.facts.firmware import Emulators
from dozencloud.facts.packages import Packages
from dozencloud.facts.reach import Outcome, Reach
from dozencloud.facts.system import Architecture, OsRelease, System

LIB = Path("/var/lib/dozencloud")
INDEX, MIRROR = "https://pypi.org/simple/", "http://deb.debian.org/debian/"

GOOD = Facts(
    system=System(
        OsRelease("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"),
        Architecture("x86_64", "amd64"),
        root=True,
        systemd=True,
        python="3.11.2",
        kernel="6.1.0",
        now=datetime(2026, 11, 22, tzinfo=UTC),
    ),
    clock=Clock(True, True, "systemd-timesyncd", ("chronyd",)),
    cpu=Cpu(2, 2.0, (Cluster("AMD EPYC", (0, 1)),), aarch32_el0=False, gic=None),
    kvm=Kvm(KvmState.USABLE),
    memory=Memory(total=8000, available=7000, swap=0),
    emulators=Emulators(None, None),
    network=Network(Datapath.SYSTEM, True, True, True, "", True, "", True, ""),
    packages=Packages(True, (), (), "", None),
    listeners=(),
    disks=(Disk(LIB, Path("/var/lib"), total=50_000, free=40_000, inodes_free=1_000_000),),
    reach=Reach(True, (Outcome(INDEX, True, "", "", 0.1), Outcome(MIRROR, True, "", "", 0.1))),
)
ARM = replace(GOOD.system, architecture=Architecture("aarch64", "arm64"))
