"""Verdicts as a table: one change to a good machine, one judgement."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from facts_kit import ARM, GOOD, INDEX, LIB, MIRROR

from dozencloud.checks.doctor import (
    SMALLEST_SERVER,
    Needs,
    Port,
    Range,
    Space,
    examine,
    need_fit,
    plain,
)
from dozencloud.content.flavors import FLAVORS
from dozencloud.errors import Exit, Problem
from dozencloud.facts import (
    Clock,
    Datapath,
    Disk,
    Facts,
    Kvm,
    KvmState,
    Memory,
    Route,
    Trace,
    Traces,
    Wall,
)
from dozencloud.facts.cpu import Cluster, Cpu
from dozencloud.facts.firewalld import Entrance
from dozencloud.facts.packages import Lock, Packages
from dozencloud.facts.ports import Listener
from dozencloud.facts.reach import Outcome, Reach
from dozencloud.facts.system import Architecture, OsRelease
from dozencloud.verdicts import Level, Verdict

NEEDS = Needs(
    ports=(Port("gateway", 443, "0.0.0.0", "gateway.port"), Port("database", 3306, "127.0.0.1")),  # noqa: S104
    spaces=(Space(LIB),),
    index=INDEX,
    mirror=MIRROR,
)
NGINX = Listener("tcp", "0.0.0.0", 443, 812, "nginx")  # noqa: S104
HALF_REMOVED = Traces(processes=(Trace(99, "ovsdb-server"),), interfaces=("dz-int",))


def judge(name: str, facts: Facts = GOOD, needs: Needs = NEEDS) -> Verdict:
    (found,) = [verdict for verdict in examine(facts, needs) if verdict.name == name]
    return found


def disk(free: int, inodes: int | None = 1_000_000) -> Facts:
    return replace(GOOD, disks=(Disk(LIB, Path("/var/lib"), 50_000, free, inodes),))


def reached(route: bool = True, **outcome: str) -> Facts:
    bad = Outcome(INDEX, False, outcome.get("reason", ""), outcome.get("proxy", ""), 0.1)
    return replace(GOOD, reach=Reach(route, (bad,)))


def packages(**changed: object) -> Facts:
    return replace(GOOD, packages=replace(GOOD.packages, **changed))  # type: ignore[arg-type]


def test_a_good_machine_has_no_complaint() -> None:
    verdicts = examine(GOOD, NEEDS)
    assert {verdict.level for verdict in verdicts} == {Level.OK, Level.NOTE}
    assert [verdict.name for verdict in verdicts if verdict.level is Level.NOTE] == ["kvm"]
    need_fit(verdicts)


@pytest.mark.parametrize(
    ("name", "facts", "level", "fact", "mend"),
    [
        (
            "capabilities",
            replace(GOOD, incapable=("sys_admin", "sys_resource")),
            Level.BAD,
            "Root lacks CAP_SYS_ADMIN here, as in a container that was not given them.",
            "Allow them there (Docker: --privileged), or use a virtual machine.",
        ),
        (
            "capabilities",
            replace(GOOD, incapable=("sys_nice", "sys_resource")),
            Level.NOTE,
            "Root lacks CAP_SYS_NICE, CAP_SYS_RESOURCE here; the cloud does without.",
            "",
        ),
        (
            "system",
            replace(
                GOOD,
                system=replace(
                    GOOD.system, distribution=OsRelease("fedora", "41", "", "Fedora Linux 41")
                ),
            ),
            Level.BAD,
            "This is Fedora Linux 41; Debian 12, Debian 13, Ubuntu 24.04, Fedora 44 and Fedora 45"
            " are supported.",
            "Install one of these, or use a virtual machine with one of them.",
        ),
        (
            "architecture",
            replace(GOOD, system=replace(ARM, architecture=Architecture("aarch64", "armhf"))),
            Level.BAD,
            "The packages here are for armhf (kernel: aarch64); amd64 and arm64 are supported.",
            "Install the 64-bit edition of the system.",
        ),
        (
            "architecture",
            replace(GOOD, system=replace(ARM, architecture=Architecture("armv7l", "armhf"))),
            Level.BAD,
            "The packages here are for armhf (kernel: armv7l); amd64 and arm64 are supported.",
            "Use a 64-bit machine. With Debian 12 this one can be a node of its cloud.",
        ),
        (
            "clock",
            replace(GOOD, system=replace(GOOD.system, now=datetime(1970, 1, 1, tzinfo=UTC))),
            Level.BAD,
            "The clock says 1970-01-01, but this release is of 2026: certificates would not be "
            "valid.",
            "Set it: sudo date -u -s 'YYYY-MM-DD HH:MM'",
        ),
        (
            "clock",
            replace(GOOD, clock=Clock(True, True, "", ("systemd-timesyncd",))),
            Level.WARN,
            "The clock says 2026-11-22 00:00 UTC; systemd-timesyncd is installed and does not run, "
            "so it drifts, and certificates have times in them.",
            "Run: sudo timedatectl set-ntp true",
        ),
        (
            "clock",
            replace(GOOD, clock=Clock(True, False, "", ("chronyd",))),
            Level.WARN,
            "The clock says 2026-11-22 00:00 UTC; chronyd is installed and does not run, "
            "so it drifts, and certificates have times in them.",
            "Run: sudo systemctl enable --now chrony",
        ),
        *(
            (
                "clock",
                replace(
                    GOOD,
                    system=replace(GOOD.system, systemd=False),
                    clock=Clock(True, True, "", (idle,)),
                ),
                Level.WARN,
                f"The clock says 2026-11-22 00:00 UTC; {idle} is installed and does not run, "
                "so it drifts, and certificates have times in them.",
                f"Run: {mend}",
            )
            for idle, mend in (
                ("systemd-timesyncd", "sudo apt-get install chrony; sudo chronyd"),
                ("ntpd", "sudo ntpd"),
            )
        ),
        (
            "clock",
            replace(GOOD, clock=Clock(True, False, "", ())),
            Level.OK,
            "The clock says 2026-11-22 00:00 UTC; chrony is to keep it.",
            "",
        ),
        (
            "clock",
            replace(GOOD, clock=Clock(False, False, "", ())),
            Level.OK,
            "The clock says 2026-11-22 00:00 UTC; the machine around this one keeps it.",
            "",
        ),
        (
            "memory",
            replace(GOOD, memory=Memory(1990, 1500, 0)),
            Level.BAD,
            "This machine has 1.9 GiB of memory; DozenCloud needs 3.0 GiB.",
            "Use a machine with more memory.",
        ),
        (
            "memory",
            replace(GOOD, memory=Memory(8000, 900, 0)),
            Level.WARN,
            "Only 0.9 GiB of 7.8 GiB of memory are free; a cloud uses about 2.0 GiB.",
            "Stop what uses most of it; to see what: ps aux --sort=-rss | head",
        ),
        (
            "disk",
            disk(5000),
            Level.BAD,
            f"Only 4.9 GiB are free on the disk for {LIB}; 6.0 GiB are needed.",
            "Make room; to see what is big: sudo du -xhd1 /var/lib | sort -h | tail",
        ),
        (
            "disk",
            disk(8000),
            Level.WARN,
            f"Only 7.8 GiB are free on the disk for {LIB}; with images and servers 10.0 GiB are "
            "better.",
            "Make room; to see what is big: sudo du -xhd1 /var/lib | sort -h | tail",
        ),
        (
            "disk",
            disk(40_000, inodes=12),
            Level.BAD,
            f"Only 12 files can still be made on the disk for {LIB}.",
            "Remove small files that nobody needs.",
        ),
        (
            "disk",
            disk(40_000, inodes=None),
            Level.OK,
            f"39.1 GiB are free on the disk for {LIB}.",
            "",
        ),
        (
            "cpu",
            replace(
                GOOD,
                cpu=Cpu(
                    6,
                    6.0,
                    (Cluster("Cortex-A53", (0, 1, 2, 3)), Cluster("Cortex-A72", (4, 5))),
                    True,
                    3,
                ),
            ),
            Level.NOTE,
            "This machine has CPUs of 2 kinds (4 x Cortex-A53, 2 x Cortex-A72).",
            "",
        ),
        (
            "kvm",
            replace(GOOD, kvm=Kvm(KvmState.ABSENT, "/dev/kvm does not exist")),
            Level.NOTE,
            "KVM is absent (/dev/kvm does not exist): ARM servers run under emulation.",
            "",
        ),
        (
            "kvm",
            replace(GOOD, kvm=Kvm(KvmState.UNUSABLE, "it cannot make a virtual CPU: no")),
            Level.NOTE,
            "KVM is here but cannot be used (it cannot make a virtual CPU: no): ARM servers run "
            "under emulation.",
            "",
        ),
        (
            "kvm",
            replace(GOOD, system=ARM, kvm=Kvm(KvmState.ABSENT, "/dev/kvm does not exist")),
            Level.WARN,
            "KVM is absent (/dev/kvm does not exist): ARM servers run under emulation, many times "
            "slower.",
            "Turn on virtualization in the firmware, or use a kernel with KVM.",
        ),
        (
            "kvm",
            replace(GOOD, system=ARM, kvm=Kvm(KvmState.USABLE, root_only=True)),
            Level.WARN,
            "KVM works for root only: ARM servers run under emulation, many times slower.",
            "Run: sudo groupadd -rf kvm; sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm; "
            "sudo ./dozen up",
        ),
        (
            "kvm",
            replace(GOOD, system=ARM, kvm=Kvm(KvmState.USABLE, aarch32_el1=True)),
            Level.OK,
            "64-bit and 32-bit ARM servers run with KVM.",
            "",
        ),
        (
            "kvm",
            replace(GOOD, system=ARM, kvm=Kvm(KvmState.USABLE)),
            Level.OK,
            "64-bit ARM servers run with KVM; 32-bit ones run under emulation.",
            "",
        ),
        (
            "packages",
            packages(unconfigured=("mariadb-server", "rabbitmq-server")),
            Level.BAD,
            "mariadb-server, rabbitmq-server are installed but not configured.",
            "Run: sudo dpkg --configure -a",
        ),
        (
            "packages",
            packages(damaged=("nginx",), broken="nginx needs to be reinstalled"),
            Level.BAD,
            "nginx is only half installed.",
            "Run: sudo apt-get install --reinstall nginx",
        ),
        (
            "packages",
            packages(broken="foo : Depends: bar"),
            Level.BAD,
            "Installed packages do not fit together (foo : Depends: bar).",
            "Run: sudo apt-get --fix-broken install",
        ),
        (
            "packages",
            packages(lock=Lock(Path("/var/lib/dpkg/lock"), 77, "apt-get"), unconfigured=("x",)),
            Level.BAD,
            "The package system is in use by apt-get (pid 77).",
            "Wait until it has ended; to see what it does: ps -fp 77",
        ),
        (
            "datapath",
            replace(GOOD, network=replace(GOOD.network, datapath=Datapath.NETDEV)),
            Level.NOTE,
            "The kernel has not both Open vSwitch and Geneve or VXLAN, so packets are moved in user"
            " space (slower).",
            "",
        ),
        (
            "datapath",
            replace(GOOD, network=replace(GOOD.network, geneve=False)),
            Level.OK,
            "The kernel has Open vSwitch and VXLAN, but not Geneve.",
            "",
        ),
        (
            "tun",
            replace(GOOD, network=replace(GOOD.network, tun=False, tun_reason="no device")),
            Level.BAD,
            "TAP devices cannot be used here (no device).",
            "Use the distribution's own kernel; in a container, allow it there.",
        ),
        (
            "index",
            reached(reason="the name pypi.org does not resolve"),
            Level.BAD,
            f"The Python package index {INDEX} cannot be reached: the name pypi.org does not "
            "resolve.",
            "Set a name server that works in /etc/resolv.conf.",
        ),
        (
            "index",
            reached(reason="it does not answer", proxy="http://proxy:3128"),
            Level.BAD,
            f"The Python package index {INDEX} cannot be reached through the proxy "
            "http://proxy:3128: it does not answer.",
            "Check the proxy settings (http_proxy, https_proxy, /etc/apt/apt.conf.d).",
        ),
        (
            "network",
            reached(route=False, reason="network is unreachable"),
            Level.BAD,
            "This machine has no default route, so it reaches no server outside.",
            "Connect it to a network; to see what it has: ip route",
        ),
        (
            "port gateway",
            replace(GOOD, listeners=(NGINX,)),
            Level.BAD,
            "Port 443 is taken by nginx (pid 812).",
            "Stop it, or set gateway.port in /etc/dozencloud/cloud.toml.",
        ),
        (
            "port database",
            replace(GOOD, listeners=(Listener("tcp", "::", 3306, 5, "mariadbd"),)),
            Level.BAD,
            "Port 3306 is taken by mariadbd (pid 5).",
            "Stop it.",
        ),
    ],
)
def test_verdict(name: str, facts: Facts, level: Level, fact: str, mend: str) -> None:
    assert judge(name, facts) == Verdict(name, level, fact, mend)


BRIDGE = "br-dozen-ex"


@pytest.mark.parametrize(
    ("wall", "level", "mend"),
    [
        (
            Wall("iptables", "DOCKER-USER", frozenset({"docker0"}), frozenset({BRIDGE})),
            Level.WARN,
            f"Run: sudo iptables -I DOCKER-USER -i {BRIDGE} -j ACCEPT; "
            f"sudo iptables -I DOCKER-USER -o {BRIDGE} -j ACCEPT",
        ),
        (
            Wall("nft", "inet fw forward", frozenset(), frozenset()),
            Level.WARN,
            f'Run: sudo nft insert rule inet fw forward iifname "{BRIDGE}" accept; '
            f'sudo nft insert rule inet fw forward oifname "{BRIDGE}" accept',
        ),
        (
            Wall("firewall-cmd", "filter_FORWARD", frozenset({BRIDGE}), frozenset()),
            Level.WARN,
            # As tried with firewalld 1.3.3: after it both directions are let through.
            f"Run: sudo firewall-cmd --permanent --zone=trusted --add-interface={BRIDGE}; "
            "sudo firewall-cmd --permanent --new-policy=dozencloud; "
            "sudo firewall-cmd --permanent --policy=dozencloud --add-ingress-zone=ANY; "
            "sudo firewall-cmd --permanent --policy=dozencloud --add-egress-zone=trusted; "
            "sudo firewall-cmd --permanent --policy=dozencloud --set-target=ACCEPT; "
            "sudo firewall-cmd --reload",
        ),
        (Wall("iptables", "FORWARD", frozenset({"br-*"}), frozenset({BRIDGE})), Level.OK, ""),
    ],
)
def test_a_firewall_that_drops_what_passes(wall: Wall, level: Level, mend: str) -> None:
    needs = replace(NEEDS, passing=(BRIDGE,))
    verdict = judge("forwarding", replace(GOOD, walls=(wall,)), needs)
    assert (verdict.level, verdict.mend) == (level, mend)
    assert BRIDGE in verdict.fact


@pytest.mark.parametrize(
    ("entrance", "closed"),
    [
        (None, False),
        (Entrance(frozenset({(22, 22)}), frozenset()), True),
        (Entrance(frozenset({(22, 22), (400, 500)}), frozenset()), False),
        (Entrance(frozenset(), frozenset({"eth0"})), False),
        (Entrance(frozenset(), frozenset({BRIDGE})), True),  # the cloud's own
    ],
)
def test_firewalld_in_front_of_the_gateway(entrance: Entrance | None, closed: bool) -> None:
    needs = replace(NEEDS, public=(443,), passing=(BRIDGE,))
    found = [v for v in examine(replace(GOOD, entrance=entrance), needs) if v.name == "firewalld"]
    assert bool(found) is closed
    for verdict in found:
        assert verdict.level is Level.WARN
        assert "to port 443" in verdict.fact
        assert "--add-port=443/tcp; sudo firewall-cmd --reload" in verdict.mend


def test_selinux_is_named_where_it_enforces() -> None:
    assert not [v for v in examine(GOOD, NEEDS) if v.name == "selinux"]
    verdict = judge("selinux", replace(GOOD, selinux=True))
    assert verdict.level is Level.WARN
    assert "ausearch" in verdict.mend


def test_our_own_processes_may_hold_our_ports() -> None:
    port = replace(NEEDS.ports[0], ours=frozenset({812}))
    needs = replace(NEEDS, ports=(port,))
    assert judge("ports", replace(GOOD, listeners=(NGINX,)), needs).level is Level.OK


def test_chrony_is_started_by_us_where_there_is_no_systemd() -> None:
    idle = replace(GOOD, clock=Clock(True, False, "", ("chronyd",)))
    assert not idle.lacks_keeper
    assert replace(idle, system=replace(GOOD.system, systemd=False)).lacks_keeper


@pytest.mark.parametrize(
    ("systemd", "mend"),
    [(True, "sudo apt-get install chrony"), (False, "sudo apt-get install chrony; sudo chronyd")],
)
def test_a_cloud_with_a_root_of_its_own_leaves_the_clock_alone(systemd: bool, mend: str) -> None:
    system = replace(GOOD.system, systemd=systemd)
    verdict = judge(
        "clock",
        replace(GOOD, system=system, clock=Clock(True, False, "", ())),
        replace(NEEDS, keeps_time=False),
    )
    assert (verdict.level, verdict.mend) == (Level.NOTE, f"Run: {mend}")


def test_the_command_for_all_of_it_is_for_this_cloud() -> None:
    nobody = replace(GOOD, system=replace(GOOD.system, root=False))
    needs = replace(NEEDS, command="sudo ./dozen --root /srv/x")
    assert judge("root", nobody, needs).mend == "For all of it: sudo ./dozen --root /srv/x doctor"


@pytest.mark.parametrize(
    ("kernel", "version", "fit"),
    [("armv7l", "12", True), ("armv7l", "13", False), ("aarch64", "12", False)],
)
def test_a_32_bit_board_is_fit_for_a_node(kernel: str, version: str, fit: bool) -> None:
    board = replace(
        GOOD,
        system=replace(
            ARM,
            architecture=Architecture(kernel, "armhf"),
            distribution=OsRelease("debian", version, "", f"Debian {version}"),
        ),
    )
    verdicts = {v.name: v for v in examine(board, replace(NEEDS, node=True))}
    assert (verdicts["architecture"].level is Level.OK) is fit


FEDORA = replace(GOOD, system=replace(GOOD.system, distribution=OsRelease("fedora", "44", "", "F")))


def test_what_nobody_tried_is_said_and_stops_nothing() -> None:
    verdicts = examine(FEDORA, NEEDS)
    need_fit(verdicts)
    assert judge("system", FEDORA) == Verdict(
        "system",
        Level.WARN,
        "The system is F; DozenCloud was not tried on a real Fedora.",
        "Tell us how it went. What has to work today: Debian 12, Debian 13 and Ubuntu 24.04.",
    )


@pytest.mark.parametrize(
    ("changed", "mend"),
    [
        ({"broken": "Unsatisfied dependencies for x"}, "Run: sudo dnf distro-sync"),
        ({"present": False}, "Use Debian 12, Debian 13, Ubuntu 24.04, Fedora 44 and Fedora 45."),
        (
            {"lock": Lock(Path("/usr/lib/sysimage/rpm/.rpm.lock"), 77, "dnf")},
            "Wait until it has ended; to see what it does: ps -fp 77",
        ),
    ],
)
def test_the_packages_of_fedora(changed: dict[str, object], mend: str) -> None:
    facts = replace(FEDORA, packages=replace(GOOD.packages, **changed))  # type: ignore[arg-type]
    assert judge("packages", facts).mend == mend


def test_the_clock_of_fedora() -> None:
    facts = replace(FEDORA, clock=Clock(True, False, "", ("chronyd",)))
    assert judge("clock", facts).mend == "Run: sudo systemctl enable --now chronyd"
    facts = replace(FEDORA, clock=Clock(True, False, "", ()))
    needs = replace(NEEDS, keeps_time=False)
    assert judge("clock", facts, needs).mend == "Run: sudo dnf install chrony"


def test_what_is_installed_needs_no_network() -> None:
    needs = replace(NEEDS, installed=True)
    for facts in (reached(reason="it does not answer"), reached(route=False, reason="x")):
        need_fit(examine(facts, needs))


def test_a_running_cloud_explains_the_memory_in_use() -> None:
    facts = replace(GOOD, memory=Memory(8000, 900, 0))
    assert judge("memory", facts, replace(NEEDS, running=True)).level is Level.OK


def test_an_installation_of_ours_that_was_cut_off_is_no_obstacle() -> None:
    facts = packages(unconfigured=("mariadb-server",), damaged=("nginx",))
    found = judge("packages", facts, replace(NEEDS, cut_off=True))
    assert found.level is Level.NOTE
    assert "the next `dozen up` finishes it" in found.fact


def test_leftovers() -> None:
    found = judge("leftovers", needs=replace(NEEDS, leftovers=HALF_REMOVED))
    assert found == Verdict(
        "leftovers",
        Level.BAD,
        "An earlier cloud was removed only in part: process ovsdb-server (pid 99), "
        "interface dz-int.",
        "Run: sudo ./dozen destroy --yes",
    )


def test_many_leftovers_are_counted() -> None:
    many = Traces(interfaces=tuple(f"dz{number}" for number in range(8)))
    found = judge("leftovers", needs=replace(NEEDS, leftovers=many))
    assert found.fact.endswith("interface dz4 and 3 more.")


def test_preflight_names_all_that_is_bad_at_once() -> None:
    facts = replace(GOOD, memory=Memory(1990, 1500, 0), listeners=(NGINX,))
    facts = replace(facts, packages=replace(GOOD.packages, present=False))
    with pytest.raises(Problem) as caught:
        need_fit(examine(facts, NEEDS))
    problem = caught.value
    assert problem.what == "This machine has 1.9 GiB of memory; DozenCloud needs 3.0 GiB."
    assert problem.mend == "Use a machine with more memory."
    assert problem.code is Exit.UNFIT
    assert problem.detail.splitlines() == [
        "There is no apt-get and dpkg here. Use Debian 12, Debian 13, Ubuntu 24.04,"
        " Fedora 44 and Fedora 45.",
        "Port 443 is taken by nginx (pid 812). "
        "Stop it, or set gateway.port in /etc/dozencloud/cloud.toml.",
    ]


def test_plain_and_json() -> None:
    verdict = Verdict("root", Level.BAD, "This needs root.", "Run: sudo ./dozen up")
    assert plain([verdict, Verdict("tun", Level.OK, "TAP devices can be used.")]).splitlines() == [
        "bad   root           This needs root.",
        "                     -> Run: sudo ./dozen up",
        "ok    tun            TAP devices can be used.",
    ]
    assert json.loads(json.dumps(verdict.to_json()))["level"] == "bad"


def test_every_sentence_ends_and_every_bad_one_has_a_mend() -> None:
    facts = replace(
        GOOD,
        system=replace(GOOD.system, root=False, now=datetime(1970, 1, 1, tzinfo=UTC)),
        packages=Packages(False, (), (), "", None),
        memory=Memory(1, 1, 0),
    )
    for verdict in (*examine(facts, NEEDS), *examine(GOOD, NEEDS)):
        assert verdict.fact.endswith(".")
        assert verdict.mend or verdict.level is not Level.BAD


FLOATING = Range("the floating IPs", IPv4Network("172.24.4.0/24"), "network.provider_cidr")
SERVERS = Range("the servers' network", IPv4Network("10.12.0.0/24"), "network.tenant_cidr", False)
LINK = Range("the link to the cloud", IPv4Network("198.18.0.4/30"), fixed=True)
HERE = replace(
    GOOD,
    routes=(
        Route(IPv4Network("192.168.1.0/24"), "eth0"),
        Route(IPv4Network("172.17.0.0/16"), "docker0"),
        Route(IPv4Network("10.0.0.0/8"), "tun0", "192.168.1.9"),
        Route(IPv4Network("172.24.4.0/24"), "br-dozen-ex"),
        Route(IPv4Network("198.18.0.0/16"), "eth1"),
    ),
    name_servers=("192.0.2.53",),
)
RANGES = replace(
    NEEDS,
    ranges=(LINK, FLOATING, SERVERS),
    own=frozenset({"br-dozen-ex"}),
    far=(("the node pi-1", "192.0.2.7"),),
)


def moved(what: Range, to: str) -> Range:
    return replace(what, network=IPv4Network(to))


@pytest.mark.parametrize(
    ("ranges", "level", "fact"),
    [
        # Against each other.
        (
            (FLOATING, moved(SERVERS, "172.24.4.0/24")),
            Level.BAD,
            "The floating IPs (172.24.4.0/24) and the servers' network (172.24.4.0/24) overlap.",
        ),
        (
            (moved(FLOATING, "10.12.0.32/27"), SERVERS),
            Level.BAD,
            "The floating IPs (10.12.0.32/27) and the servers' network (10.12.0.0/24) overlap.",
        ),
        (
            (LINK, moved(FLOATING, "198.18.0.0/24")),
            Level.BAD,
            "The link to the cloud (198.18.0.4/30) and the floating IPs (198.18.0.0/24) overlap.",
        ),
        # The machine's own network, all of it, a part, or more.
        *(
            (
                (moved(FLOATING, network),),
                Level.BAD,
                f"The network {network} of the floating IPs leads to the device eth0 already.",
            )
            for network in ("192.168.1.0/24", "192.168.1.128/25", "192.168.0.0/16")
        ),
        (
            (moved(FLOATING, "172.17.5.0/24"),),
            Level.BAD,
            "The network 172.17.5.0/24 of the floating IPs leads to the device docker0 already.",
        ),
        # What it reaches by a router.
        (
            (moved(FLOATING, "10.99.0.0/24"),),
            Level.WARN,
            "The floating IPs (10.99.0.0/24) would hide a part of 10.0.0.0/8, which is behind"
            " 192.168.1.9, from this machine.",
        ),
        (
            (moved(FLOATING, "192.0.2.0/24"),),
            Level.BAD,
            "The floating IPs (192.0.2.0/24) would hide the node pi-1, 192.0.2.7, from this"
            " machine.",
        ),
        (
            (moved(FLOATING, "192.0.2.32/27"),),
            Level.BAD,
            "The floating IPs (192.0.2.32/27) would hide this machine's name server, 192.0.2.53,"
            " from this machine.",
        ),
        (
            (moved(SERVERS, "192.168.1.0/24"),),
            Level.WARN,
            "The servers' network (192.168.1.0/24) has addresses of 192.168.1.0/24, which eth0"
            " leads to: servers do not reach what is there.",
        ),
        (
            (moved(SERVERS, "192.0.2.32/27"),),
            Level.WARN,
            "The servers' network (192.0.2.32/27) would hide this machine's name server,"
            " 192.0.2.53, from servers.",
        ),
        # Good: its own devices; a small one in a wide one; a card's network.
        ((FLOATING,), Level.OK, "Nothing else has 172.24.4.0/24."),
        ((LINK,), Level.OK, "Nothing else has 198.18.0.4/30."),
        (
            (replace(moved(FLOATING, "192.168.1.0/24"), shared=True),),
            Level.OK,
            "Nothing else has 192.168.1.0/24.",
        ),
    ],
)
def test_addresses(ranges: tuple[Range, ...], level: Level, fact: str) -> None:
    verdicts = examine(HERE, replace(RANGES, ranges=ranges))
    found = {v.fact: v for v in verdicts if v.name == "addresses"}
    assert found[fact].level == level
    assert bool(found[fact].mend) == (level is not Level.OK)


def test_a_setting_that_moves_addresses_is_named() -> None:
    verdict = judge("addresses", HERE, replace(RANGES, ranges=(moved(FLOATING, "192.168.1.0/24"),)))
    assert verdict.mend == (
        'Choose one that is free, e.g. provider_cidr = "10.99.0.0/24" under [network] in '
        "/etc/dozencloud/cloud.toml."
    )
    with pytest.raises(Problem):
        need_fit([verdict])
    other = replace(HERE, routes=(Route(IPv4Network("198.18.0.4/30"), "dz12345-h"),))
    assert "another --root" in judge("addresses", other, replace(RANGES, ranges=(LINK,))).mend


UNUSABLE = Kvm(KvmState.UNUSABLE, "it refuses")
WITHOUT_SWITCH = replace(GOOD, network=replace(GOOD.network, datapath=Datapath.NETDEV))
WITHOUT_GENEVE = replace(GOOD, network=replace(GOOD.network, geneve=False))


@pytest.mark.parametrize(
    ("name", "facts", "asked", "fact", "mend"),
    [
        (
            "memory",
            GOOD,
            {"reserved": 7745},
            "compute.reserved_memory is 7745 MiB, and this machine has 8000 MiB of memory: too "
            "little would be left for servers.",
            "Set it to 7744 or less in /etc/dozencloud/cloud.toml.",
        ),
        (
            "cpu",
            GOOD,
            {"dedicated": frozenset((1, 2))},
            "compute.dedicated_cpus in /etc/dozencloud/cloud.toml names CPUs that this machine has "
            "not, or all of them; it has 0,1.",
            "Name some of these",
        ),
        *(
            (
                "kvm",
                replace(GOOD, system=system, kvm=kvm),
                {"kvm": True},
                f"compute.virt_type is kvm, and KVM cannot be used here ({why}).",
                'Set it to "auto" in /etc/dozencloud/cloud.toml.',
            )
            for system in (GOOD.system, ARM)
            for kvm, why in (
                (UNUSABLE, "it refuses"),
                (Kvm(KvmState.ABSENT, "/dev/kvm does not exist"), "/dev/kvm does not exist"),
                (Kvm(KvmState.USABLE, root_only=True), "it works for root only"),
            )
        ),
        (
            "datapath",
            WITHOUT_SWITCH,
            {"kernel_switch": True},
            "network.datapath is system, and the kernel has not both Open vSwitch and Geneve or "
            "VXLAN.",
            'Set it to "auto"',
        ),
        (
            "datapath",
            WITHOUT_GENEVE,
            {"geneve": True},
            "network.tunnels is geneve, and the kernel has VXLAN only.",
            'Set it to "auto"',
        ),
    ],
)
def test_settings_that_this_machine_cannot_fulfil(
    name: str, facts: Facts, asked: dict[str, object], fact: str, mend: str
) -> None:
    needs = replace(NEEDS, **asked)  # type: ignore[arg-type]
    verdict = judge(name, facts, needs)
    assert (verdict.level, verdict.fact) == (Level.BAD, fact)
    assert verdict.mend.startswith(mend)


@pytest.mark.parametrize(
    ("name", "facts", "asked"),
    [
        ("memory", GOOD, {"reserved": 7744}),
        ("cpu", GOOD, {"dedicated": frozenset((1,))}),
        ("kvm", GOOD, {"kvm": True}),
        ("datapath", GOOD, {"kernel_switch": True, "geneve": True}),
        ("datapath", WITHOUT_SWITCH, {"geneve": True}),
    ],
)
def test_settings_that_it_can(name: str, facts: Facts, asked: dict[str, object]) -> None:
    needs = replace(NEEDS, **asked)  # type: ignore[arg-type]
    assert judge(name, facts, needs).level is not Level.BAD


def test_the_smallest_server_is_as_large_as_the_smallest_flavor() -> None:
    assert min(memory for memory, _, _ in FLAVORS.values()) == SMALLEST_SERVER


def test_addresses_that_a_cloud_was_made_with_move_no_more() -> None:
    made = replace(moved(FLOATING, "192.168.1.0/24"), made=True)
    verdict = judge("addresses", HERE, replace(RANGES, ranges=(made,)))
    assert verdict.mend.startswith("The cloud was made with it: change the other's addresses")


BLIND = replace(
    GOOD,
    system=replace(GOOD.system, root=False),
    kvm=Kvm(KvmState.UNUSABLE, "/dev/kvm may not be opened by this user"),
    network=replace(GOOD.network, tun=False, namespaces=False, nftables=False),
    listeners=(Listener("tcp", "0.0.0.0", 443, None, ""),),  # noqa: S104
)


@pytest.mark.parametrize("architecture", [GOOD.system.architecture, ARM.architecture])
def test_what_cannot_be_seen_without_root_is_not_called_bad(architecture: Architecture) -> None:
    facts = replace(BLIND, system=replace(BLIND.system, architecture=architecture))
    verdicts = {verdict.name: verdict for verdict in examine(facts, NEEDS)}
    assert {verdict.level for verdict in verdicts.values()} == {Level.OK, Level.NOTE}
    assert verdicts["root"].fact == (
        "Without root these cannot be seen: services, firewalls, who listens on a port, who "
        "installs packages, whether KVM works, whether TAP devices can be used, whether network "
        "namespaces can be used, whether nftables can be used."
    )
    assert "sudo ./dozen doctor" in verdicts["root"].mend
    fact = "Port 443 is taken; without root it cannot be seen by whom."
    assert verdicts["port gateway"].fact == fact
    assert "kvm" not in verdicts


def test_what_can_be_seen_without_root_is_judged() -> None:
    mine = Listener("tcp", "0.0.0.0", 443, 812, "nginx")  # noqa: S104
    assert judge("port gateway", replace(BLIND, listeners=(mine,))).level is Level.BAD
    assert (
        judge("kvm", replace(BLIND, kvm=Kvm(KvmState.ABSENT, "there is none"))).level is Level.NOTE
    )
