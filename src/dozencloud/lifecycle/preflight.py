"""Before work begins: is this machine fit for the cloud that the settings describe?"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import stat
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

from dozencloud import facts
from dozencloud.checks import doctor, frontdoor
from dozencloud.checks.judges import network
from dozencloud.checks.needs import NO_TRACES, Needs, Port, Range, Space
from dozencloud.cloud.installation import INTEGRATION_BRIDGE, Cloud
from dozencloud.cloud.membership import Member, members, membership_file
from dozencloud.cloud.plan import FIRST, JOINED
from dozencloud.cloud.settings import GENEVE, Internal, parse_cpus
from dozencloud.cloud.state import REGISTERED, State
from dozencloud.errors import Problem
from dozencloud.facts.reach import Target
from dozencloud.host import packages
from dozencloud.host.network import dataplane, namespace, tunnels, uplink
from dozencloud.lifecycle.lock import are_ours, foreign_folders, is_used
from dozencloud.lifecycle.node import needed_packages
from dozencloud.supervision.client import Supervisor, log_file
from dozencloud.verdicts import Level, Verdict

GIB = 1024  # MiB


def markers(cloud: Cloud) -> facts.Markers:
    """How this cloud's remains are recognised."""
    return facts.Markers(
        words=(
            cloud.marker,
            # Programs that overwrite their environment, or are given a clean one.
            str(cloud.etc / "gateway" / "nginx.conf"),
            str(cloud.lib / "libvirt"),
        ),
        interfaces=(cloud.provider_bridge, cloud.link_devices[0], uplink.bridge(cloud)),
        namespaces=(cloud.namespace,) if cloud.namespace else ("ovnmeta-*",),
        tables=(f"inet {cloud.table}", f"inet {cloud.table}-consoles"),
        directories=cloud.folders if are_ours(cloud) else (),
    )


def leftovers(cloud: Cloud) -> facts.Traces:
    """What an earlier cloud left where none is; folders count if anything of worth is in them."""
    if cloud.exists:
        return NO_TRACES
    traces = facts.find_traces(markers(cloud))
    return replace(traces, directories=tuple(d for d in traces.directories if is_used(d)))


def ports(cloud: Cloud) -> tuple[Port, ...]:
    """Ports of the machine that this cloud binds; none if it has a namespace of its own."""
    if cloud.namespace:
        return ()
    # Needs the services' libraries, which a new machine has not (bootstrap/early.py).
    ours = frozenset[int]()
    if Supervisor(cloud).pid():
        from dozencloud.checks.status import own_pids

        ours = own_pids(cloud)
    everywhere, settings = "0.0.0.0", cloud.settings  # noqa: S104  (asked about, not bound)
    gateway = Port("gateway", settings.gateway.port, everywhere, "gateway.port", ours)
    internal = (
        Port(f.name, getattr(settings.internal, f.name), "127.0.0.1", f"internal.{f.name}", ours)
        for f in fields(Internal)
    )
    return (gateway, *internal)


BRIDGES_FILTERED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""1: what passes a bridge of the kernel passes the firewall, too. Docker has it so."""


def passing(cloud: Cloud, found: facts.Facts, *, node: bool) -> tuple[str, ...]:
    """Devices of this cloud from and to which packets go through this machine."""
    if cloud.namespace:
        return (cloud.link_devices[0],)
    name, devices = cloud.settings.network.provider_interface, []
    if dataplane.datapath(cloud, found.network) == "netdev" and (node or members(cloud)):
        devices.append(tunnels.link_devices(cloud)[0])
    if not node and not name:
        devices.append(cloud.provider_bridge)
    elif not node and BRIDGES_FILTERED.exists() and BRIDGES_FILTERED.read_text().strip() == "1":
        card = uplink.look(cloud, name)
        devices.append(uplink.above(cloud, card) if card else uplink.bridge(cloud))
    return tuple(devices)


def warnings(
    cloud: Cloud, found: facts.Facts, verdicts: list[Verdict], *, node: bool
) -> tuple[Verdict, ...]:
    """What a person should hear of after a run, though it stopped nothing.

    Firewalls are looked at again: before the first run there may have been no program that shows
    them, and what they are about to drop.
    """
    now = replace(found, walls=facts.walls())
    asked = Needs(passing=passing(cloud, now, node=node) if now.walls else ())
    heard = [verdict for verdict in verdicts if verdict.name != "forwarding"]
    return doctor.warnings([*heard, *network.forwarding(now, asked)])


NODE_MEMORY = (900, 500)
"""MiB that a node has, and that must be free on it: some 350 for its services, and a small server.

A board of 1 GiB has some 920."""


ENVIRONMENT = 900
"""MiB that the Python environment needs (bootstrap/environment.sh)."""


@dataclass(frozen=True)
class Work:
    """What there is to do on this machine until the cloud runs.

    lacking: packages are to be installed.   cut_off: an installation was, before.
    complete: nothing is to be installed, fetched or built.
    """

    lacking: bool
    cut_off: bool
    complete: bool

    @classmethod
    def find(cls, cloud: Cloud, *, node: bool) -> Self:
        found = facts.gather()
        system = found.system
        wanted = needed_packages(cloud, found, JOINED if node else FIRST)
        lacking = found.packages.present and bool(packages.missing(wanted))
        # Who is not root sees that the state is there, and not what is in it.
        state = State.of(cloud)
        image = state.get("tiny-image") if system.root and not node else True
        cut_off = system.root and state.get(packages.BEGUN) is not None
        return cls(lacking, cut_off, not (lacking or cut_off) and bool(image))


def spaces(cloud: Cloud, work: Work, base: Path | None) -> tuple[Space, ...]:
    """Disk space that the work takes; what is installed already needs no room again.

    Measured on Debian 12 and 13.
    """
    found = [Space(cloud.lib, GIB if work.complete else 3 * GIB, 5 * GIB)]
    if work.lacking:
        disk = {path: path.stat().st_dev for path in (Path("/usr"), Path("/var"))}
        there = next(p for p in (cloud.lib, *cloud.lib.parents) if p.exists()).stat().st_dev
        found += [Space(p, 2 * GIB, 3 * GIB) for p in disk if disk[p] != there]
    if base:
        found.append(Space(base, ENVIRONMENT, ENVIRONMENT))
    return tuple(found)


def examine(
    cloud: Cloud, *, joining: bool = False, base: Path | None = None, index: str = ""
) -> tuple[facts.Facts, list[Verdict]]:
    """The facts, and whether this machine is fit to bring up the cloud, or to be a node of one.

    Servers outside are asked only if something must come from there.

    base, index: where the Python environment is to be made, and from which package index; None
        where this runs in it.
    """
    node = joining or membership_file(cloud).exists()
    work = Work.find(cloud, node=node)
    mirror = "" if work.complete else cloud.settings.image.mirror
    room = spaces(cloud, work, base)
    targets = (
        *((Target(mirror, apt=True),) if mirror else ()),
        *((Target(index),) if index else ()),
    )
    found = facts.gather(tuple(space.path for space in room), targets)
    asked = replace(
        needs(cloud, found, node=node),
        spaces=room,
        mirror=mirror,
        index=index,
        environment=base,
        installed=work.complete,
        cut_off=work.cut_off,
    )
    verdicts = [*doctor.examine(found, asked), *foreign_switch(cloud)]
    verdicts += [*closed_folder(cloud), *foreign_folders(cloud)]
    if not node:
        verdicts += [*provider_card(cloud), *kept_settings(cloud), *frontdoor.judge(cloud)]
    return found, [_allowed(verdict) for verdict in verdicts]


def needs(cloud: Cloud, found: facts.Facts, *, node: bool) -> Needs:
    """What the settings ask of the machine."""
    settings = cloud.settings
    asked = Needs(
        ports=() if node else ports(cloud),
        leftovers=leftovers(cloud),
        running=Supervisor(cloud).alive(),
        node=node,
        keeps_time=cloud.root is None,
        passing=passing(cloud, found, node=node) if found.walls else (),
        public=() if node or cloud.namespace else (settings.gateway.port,),
        ranges=ranges(cloud, node=node),
        own=own_devices(cloud),
        far=() if node else far(cloud),
        reserved=settings.compute.reserved_memory,
        kvm=settings.compute.virt_type == "kvm",
        dedicated=parse_cpus(settings.compute.dedicated_cpus, str(cloud.file)),
        kernel_switch=settings.network.datapath == "system",
        geneve=settings.network.tunnels == GENEVE,
        settings=cloud.file,
        command=cloud.command(),
    )
    if node:
        return replace(asked, memory=NODE_MEMORY[0], available=NODE_MEMORY[1])
    return asked


def _allowed(verdict: Verdict) -> Verdict:
    """An unsupported system is a warning for who asked for it, as in the launcher."""
    if verdict.name == "system" and os.environ.get("DOZEN_UNSUPPORTED") == "1":
        return replace(verdict, level=min(verdict.level, Level.WARN, key=_severity))
    return verdict


def _severity(level: Level) -> int:
    return list(Level).index(level)


def closed_folder(cloud: Cloud) -> list[Verdict]:
    """A folder on the way to the root that the services' users cannot pass through."""
    if cloud.root is None:
        return []
    for folder in (cloud.root, *cloud.root.parents):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return [
                Verdict(
                    "folder",
                    Level.BAD,
                    f"The folder {folder} is closed to other users, and the services run as such.",
                    f"Run: chmod o+x {folder}, or choose another --root.",
                )
            ]
    return []


def foreign_switch(cloud: Cloud) -> list[Verdict]:
    """The machine's own Open vSwitch with a bridge of the name that ours must have."""
    if cloud.exists or cloud.namespace or not Path("/sys/class/net", INTEGRATION_BRIDGE).exists():
        return []
    return [
        Verdict(
            "open vswitch",
            Level.BAD,
            f"This machine has a bridge {INTEGRATION_BRIDGE} of another Open vSwitch already.",
            "Remove it (ovs-vsctl del-br br-int), or give the cloud a namespace of its own: "
            "sudo ./dozen --root /srv/dozen up",
        )
    ]


def provider_card(cloud: Cloud) -> list[Verdict]:
    """The card in whose network the floating IPs are to be."""
    if os.geteuid():
        return []  # neither the state nor a namespace can be read
    name = cloud.settings.network.provider_interface
    state = State.of(cloud)
    there = state.get(uplink.STATE) or ""
    if state.get("networks") and bool(there) != bool(name):
        return [
            Verdict(
                "card",
                Level.BAD,
                "The network of the floating IPs was registered "
                f"{f'for the card {there}' if there else 'without a card'}, and "
                f"network.provider_interface says {json.dumps(name)} now.",
                f'Set it to "{there}" again in {cloud.file}, or destroy the cloud and bring it up '
                "anew.",
            )
        ]
    if not name or (cloud.namespace and not namespace.namespace_exists(cloud)):
        return []
    if not shutil.which("ip"):
        return []  # a new machine: `up` installs it, and asks again before it touches the card
    return [uplink.judge(uplink.look(cloud, name), cloud)]


STAYS = {
    "network.tenant_cidr": "Set it back: a subnet keeps its addresses. For servers with others make"
    " a network beside `private`: openstack network create, openstack subnet create, openstack"
    " router add subnet.",
    "network.dns": "Change it there, too: openstack subnet set --no-dns-nameservers"
    " --dns-nameserver ADDRESS private; or set it back.",
}
"""Settings that concern the network `private` alone, and how to get there what they now say."""


def kept_settings(cloud: Cloud) -> list[Verdict]:
    """Settings that were changed too late to be applied."""
    if os.geteuid():
        return []  # the state cannot be read
    verdicts = []
    for name, before in (State.of(cloud).get(REGISTERED) or {}).items():
        now = cloud.registered.get(name, before)
        if now == before:
            continue
        fact = f"{name} is {json.dumps(now)} in {cloud.file}; the cloud was made with {before}"
        if mend := STAYS.get(name):
            verdicts.append(Verdict("settings", Level.WARN, f"{fact}, which stays.", mend))
        else:
            verdicts.append(
                Verdict(
                    "settings",
                    Level.BAD,
                    f"{fact}.",
                    "Set it back, or destroy the cloud and bring it up anew.",
                )
            )
    return verdicts


def ranges(cloud: Cloud, *, node: bool) -> tuple[Range, ...]:
    """Addresses that this machine gives to its part of the cloud."""
    link = ipaddress.IPv4Network(f"{cloud.link[0]}/30", strict=False)
    tunnel = ipaddress.IPv4Network(f"{tunnels.SWITCH}/30", strict=False)
    found = [Range("the link to the cloud", link, fixed=True)] if cloud.root else []
    if not cloud.namespace and (node or _members(cloud)):
        found.append(Range("the tunnels between nodes", tunnel, fixed=True))
    if node:
        return tuple(found)
    floating = _made("the floating IPs", cloud.provider, "network.provider_cidr", cloud)
    if cloud.settings.network.provider_interface:
        floating = replace(floating, shared=True)
    servers = _made("the servers' network", cloud.tenant, "network.tenant_cidr", cloud)
    servers = replace(servers, routed=False)
    projects = Range("networks of projects", cloud.projects, "network.project_cidr", False)
    return (*found, floating, servers, projects)


def _made(what: str, wished: ipaddress.IPv4Network, setting: str, cloud: Cloud) -> Range:
    """The range that a cloud was made with, whatever the setting says now; else that one."""
    before = None if os.geteuid() else (State.of(cloud).get(REGISTERED) or {}).get(setting)
    if before:
        return Range(what, ipaddress.IPv4Network(before), setting, made=True)
    return Range(what, wished, setting)


def own_devices(cloud: Cloud) -> frozenset[str]:
    """Devices that lead to the cloud's own addresses."""
    name = cloud.settings.network.provider_interface
    return frozenset(
        (
            *(cloud.provider_bridge, uplink.bridge(cloud), *cloud.link_devices),
            *tunnels.link_devices(cloud),
            *((name,) if name else ()),
        )
    )


def _members(cloud: Cloud) -> tuple[Member, ...]:
    """The nodes that joined, as far as we may know."""
    return () if os.geteuid() else members(cloud)


def far(cloud: Cloud) -> tuple[tuple[str, str], ...]:
    """Machines with an address that the cloud must not hide."""
    names = [(f"the node {member.name}", member.address) for member in _members(cloud)]
    for server in cloud.settings.network.dns:
        if ipaddress.ip_address(server).version == 4:
            names.append(("a name server of servers", server))
    return tuple(names)


def service_verdicts(cloud: Cloud) -> list[Verdict]:
    """How the services of a cloud that exists are."""
    from dozencloud.checks.status import collect

    try:
        now = collect(cloud)
    except Problem as problem:
        return [Verdict("services", Level.WARN, problem.what, problem.mend)]
    if now.supervisor.state == "stopped":
        start = f"Run: {cloud.command('start')}"
        return [Verdict("services", Level.NOTE, "The cloud is stopped.", start)]
    down = [s for s in now.services if s.state != "running"]
    verdicts = [
        Verdict(
            service.name,
            Level.BAD if service.failing else Level.WARN,
            f"{service.title} is {service.state}.",
            f"See: {cloud.command('logs', service.name)}"
            if log_file(cloud, service.name).exists()
            else f"It was never started. Run: {cloud.command('up')}",
        )
        for service in down
    ]
    verdicts += [
        Verdict("networks", Level.BAD, fault, f"Run: {cloud.command(*mend)}")
        for fault, mend in now.faults.items()
    ]
    if now.routers.some_silent:
        verdicts.append(
            Verdict(
                "networks",
                Level.WARN,
                f"{now.routers.some_silent}; others answer.",
                "See whose they are: openstack router list --all-projects",
            )
        )
    if members(cloud) and not verdicts:
        verdicts += _node_verdicts(cloud)
    if not verdicts:
        fact = f"All {len(now.services)} services run."
        verdicts = [Verdict("services", Level.OK, fact)]
    return verdicts


def _node_verdicts(cloud: Cloud) -> list[Verdict]:
    """What is wrong with the nodes, or why the cloud does not tell that."""
    # The SDK takes its time to load.
    from dozencloud.access import client
    from dozencloud.nodes import listing

    try:
        rows = listing.rows(cloud)
    except Exception as error:
        if problem := client.refusal(error, cloud):
            return [Verdict("nodes", Level.BAD, problem.what, problem.mend)]
        raise
    return [Verdict("nodes", Level.WARN, trouble) for row in rows for trouble in row.troubles]
