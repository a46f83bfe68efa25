"""Judge the facts: what is fit, what is not, and what to do about it.

Pure: facts and needs in, verdicts out. `dozen doctor` shows them all; `dozen up` asks
`need_fit` before it changes anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from dozencloud.errors import Exit, Problem
from dozencloud.facts import Cpu, Datapath, Facts, KvmState, Traces, Wall
from dozencloud.facts.capabilities import HELPFUL
from dozencloud.facts.reach import Outcome
from dozencloud.facts.system import RELEASE_YEAR, Architecture
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.base import Distribution
from dozencloud.host.distributions.needs import Need
from dozencloud.verdicts import Level, Verdict

NO_TRACES = Traces()

_MAX_NAMED = 5  # things named in one sentence


@dataclass(frozen=True)
class Port:
    """A port that the cloud will bind. `ours`: processes of this cloud that may hold it."""

    name: str
    port: int
    address: str
    setting: str = ""
    """The setting that moves it, such as "gateway.port"."""
    ours: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Space:
    """Disk space, in MiB: below `least` it cannot work, below `good` it will not last."""

    path: Path
    least: int = 6 * 1024
    good: int = 10 * 1024


@dataclass(frozen=True)
class Range:
    """Addresses that the cloud takes.

    what: for people.   setting: what moves it; empty: a --root of another name does.
    routed: this machine gets a route to it. Else only servers are in it, which then do not reach
        others with these addresses.
    fixed: small, and may lie in a wider network of the machine.
    shared: a network that was there before, with machines of others in it.
    made: the cloud was made with it, and the setting moves it no more.
    """

    what: str
    network: ipaddress.IPv4Network
    setting: str = ""
    routed: bool = True
    fixed: bool = False
    shared: bool = False
    made: bool = False

    def __str__(self) -> str:
        return f"{self.what[0].upper()}{self.what[1:]} ({self.network})"


@dataclass(frozen=True)
class Needs:
    """What the cloud asks of the machine.

    index, mirror: URLs of the Python package index and the distribution's mirror; empty if
        nothing must come from there.
    leftovers: traces found where no cloud should be; empty while a cloud lives there.
    cut_off: an installation of packages by the cloud was cut off; its next run finishes it.
    running: the cloud is up, so the memory in use is mostly its own.
    node: the machine joins a cloud, or did.
    keeps_time: `up` sees to the clock where nothing else does.
    passing: devices of the cloud from and to which packets go through this machine.
    public: TCP ports of this machine that others are to reach.
    ranges: addresses that the cloud takes.   own: its devices, which may lead there.
    environment: where the Python environment is to be made; None where it is there.
    command: how a person begins a command for this cloud.
    far: addresses that must be reached from here or by servers, each with its name for people.
    reserved: MiB of memory that the settings keep from servers.
    dedicated: numbers of the CPUs that the settings keep for some servers.
    kvm, kernel_switch, geneve: what the settings ask for, and not only where it is there: KVM, Open
        vSwitch in the kernel, Geneve.
    """

    ports: tuple[Port, ...] = ()
    memory: int = 3 * 1024
    available: int = 2 * 1024
    spaces: tuple[Space, ...] = ()
    index: str = ""
    mirror: str = ""
    installed: bool = False
    cut_off: bool = False
    leftovers: Traces = NO_TRACES
    running: bool = False
    node: bool = False
    keeps_time: bool = True
    passing: tuple[str, ...] = ()
    public: tuple[int, ...] = ()
    ranges: tuple[Range, ...] = ()
    own: frozenset[str] = frozenset()
    far: tuple[tuple[str, str], ...] = ()
    environment: Path | None = None
    reserved: int = 0
    dedicated: frozenset[int] = frozenset()
    kvm: bool = False
    kernel_switch: bool = False
    geneve: bool = False
    settings: Path = Path("/etc/dozencloud/cloud.toml")
    command: str = "sudo ./dozen"


def examine(facts: Facts, needs: Needs) -> list[Verdict]:
    """Judge everything, in the order in which a person would mend it."""
    return [
        *_system(facts, needs),
        *_size(facts, needs),
        *_processors(facts, needs),
        *_packages(facts, needs),
        *_network(facts, needs),
        *forwarding(facts, needs),
        *_entrance(facts, needs),
        *_outside(facts, needs),
        *_ranges(facts, needs),
        *_ports(facts, needs),
        *_leftovers(needs),
        *_environment(needs),
    ]


def need_fit(verdicts: Iterable[Verdict]) -> None:
    """Raise one Problem that names every BAD verdict; return if there is none."""
    bad = [verdict for verdict in verdicts if verdict.level is Level.BAD]
    if not bad:
        return
    first, *rest = bad
    detail = "\n".join(f"{verdict.fact} {verdict.mend}".strip() for verdict in rest)
    raise Problem(first.fact, first.mend, detail=detail, code=Exit.UNFIT)


def warnings(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """What a person should hear of, though it stops nothing."""
    return tuple(verdict for verdict in verdicts if verdict.level is Level.WARN)


def plain(verdicts: Iterable[Verdict]) -> str:
    """Lines for a terminal without colours; the mend stands under its fact."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.level.value:<5} {verdict.name:<14} {verdict.fact}")
        if verdict.mend:
            lines.append(f"{'':<20} -> {verdict.mend}")
    return "\n".join(lines)


def _system(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    system = facts.system
    if system.root:
        yield Verdict("root", Level.OK, "Running as root.")
    else:
        yield Verdict(
            "root",
            Level.NOTE,
            f"Without root these cannot be seen: {', '.join(_unseen(facts))}.",
            f"For all of it: {needs.command} doctor",
        )

    found, architecture = system.distribution, system.architecture
    distribution = registry.find(found)
    if registry.is_supported(found) and distribution.untried:
        yield Verdict(
            "system",
            Level.WARN,
            f"The system is {found.pretty}; {distribution.untried}.",
            f"Tell us how it went. What has to work today: {registry.supported_names(tried=True)}.",
        )
    elif registry.is_supported(found):
        yield Verdict("system", Level.OK, f"The system is {found.pretty}.")
    else:
        yield Verdict(
            "system",
            Level.BAD,
            f"This is {found.pretty}; {registry.supported_names()} are supported.",
            "Install one of these, or use a virtual machine with one of them.",
        )

    if distribution.fit(architecture, node=needs.node):
        kinds = f"{architecture.packages} ({architecture.kernel} kernel)"
        yield Verdict("architecture", Level.OK, f"The architecture is {kinds}.")
    else:
        supported = " and ".join(distribution.architectures)
        packages = architecture.packages or "unknown"
        yield Verdict(
            "architecture",
            Level.BAD,
            f"The packages here are for {packages} (kernel: {architecture.kernel}); "
            f"{supported} are supported.",
            _another_architecture(architecture),
        )

    yield from _capabilities(facts)
    if facts.selinux:
        yield Verdict(
            "selinux",
            Level.WARN,
            "SELinux enforces its policy here, and DozenCloud was not tried with it.",
            "If a service does not start, see what was forbidden: sudo ausearch -m avc -ts recent. "
            "To allow it until this machine starts again: sudo setenforce 0",
        )
    yield Verdict(
        "init",
        Level.OK,
        "systemd runs this machine." if system.systemd else "This machine runs without systemd.",
    )

    if system.clock_plausible:
        yield _clock(facts, needs)
    else:
        yield Verdict(
            "clock",
            Level.BAD,
            f"The clock says {system.now:%Y-%m-%d}, but this release is of {RELEASE_YEAR}: "
            "certificates would not be valid.",
            "Set it: sudo date -u -s 'YYYY-MM-DD HH:MM'",
        )


def _capabilities(facts: Facts) -> Iterator[Verdict]:
    if not facts.system.root:
        return
    needed = [name for name in facts.incapable if name not in HELPFUL]
    named = _named(f"CAP_{name.upper()}" for name in needed or facts.incapable)
    if needed:
        yield Verdict(
            "capabilities",
            Level.BAD,
            f"Root lacks {named} here, as in a container that was not given them.",
            "Allow them there (Docker: --privileged), or use a virtual machine.",
        )
    elif facts.incapable:
        yield Verdict(
            "capabilities",
            Level.NOTE,
            f"Root lacks {named} here; the cloud does without.",
        )


def _unseen(facts: Facts) -> Iterator[str]:
    """What is hidden from who is not root."""
    yield from ("services", "firewalls", "who listens on a port", "who installs packages")
    if facts.kvm.state is KvmState.UNUSABLE:
        yield "whether KVM works"
    network = facts.network
    for what, works in (
        ("TAP devices", network.tun),
        ("network namespaces", network.namespaces),
        ("nftables", network.nftables),
    ):
        if not works:
            yield f"whether {what} can be used"


def _clock(facts: Facts, needs: Needs) -> Verdict:
    clock, says = facts.clock, f"The clock says {facts.system.now:%Y-%m-%d %H:%M} UTC"
    if clock.keeper:
        return Verdict("clock", Level.OK, f"{says}; {clock.keeper} keeps it.")
    if not clock.settable:
        return Verdict("clock", Level.OK, f"{says}; the machine around this one keeps it.")
    if not facts.lacks_keeper:
        return Verdict(
            "clock",
            Level.WARN,
            f"{says}; {clock.idle[0]} is installed and does not run, so it drifts, and certificates"
            " have times in them.",
            f"Run: {_keep_clock(facts)}",
        )
    if needs.keeps_time:
        return Verdict("clock", Level.OK, f"{says}; chrony is to keep it.")
    return Verdict("clock", Level.NOTE, f"{says}; nothing keeps it.", f"Run: {_keep_clock(facts)}")


def _keep_clock(facts: Facts) -> str:
    """The command after which something keeps the clock."""
    idle = next(iter(facts.clock.idle), "")
    distribution = registry.find(facts.system.distribution)
    install = f"sudo {distribution.to_install(Need.TIME)}"
    if facts.system.systemd:
        return {
            "": install,
            "chronyd": f"sudo systemctl enable --now {distribution.time.unit}",
        }.get(idle, "sudo timedatectl set-ntp true")
    if idle in ("", "systemd-timesyncd"):  # the latter is systemd's
        return f"{install}; sudo chronyd"
    return f"sudo {idle}"


def _another_architecture(here: Architecture) -> str:
    if here.kernel in {"aarch64", "x86_64"}:
        return "Install the 64-bit edition of the system."
    if here.small:
        boards = registry.for_boards()
        return f"Use a 64-bit machine. With {boards} this one can be a node of its cloud."
    return "Use a 64-bit machine."


SMALLEST_SERVER = 256
"""MiB of memory that `m1.nano` has, of which the first server is."""


def _size(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    memory = facts.memory
    if memory.total < needs.memory:
        yield Verdict(
            "memory",
            Level.BAD,
            f"This machine has {_gib(memory.total)} of memory; DozenCloud needs"
            f" {_gib(needs.memory)}.",
            "Use a machine with more memory.",
        )
    elif memory.total < needs.reserved + SMALLEST_SERVER:
        yield Verdict(
            "memory",
            Level.BAD,
            f"compute.reserved_memory is {needs.reserved} MiB, and this machine has"
            f" {memory.total} MiB of memory: too little would be left for servers.",
            f"Set it to {memory.total - SMALLEST_SERVER} or less in {needs.settings}.",
        )
    elif memory.available < needs.available and not needs.running:
        yield Verdict(
            "memory",
            Level.WARN,
            f"Only {_gib(memory.available)} of {_gib(memory.total)} of memory are free; a cloud "
            f"uses about {_gib(needs.available)}.",
            "Stop what uses most of it; to see what: ps aux --sort=-rss | head",
        )
    else:
        yield Verdict(
            "memory",
            Level.OK,
            f"{_gib(memory.available)} of {_gib(memory.total)} of memory are free.",
        )

    disks = {disk.path: disk for disk in facts.disks}
    for space in needs.spaces:
        disk = disks[space.path.absolute()]
        free = f"{_gib(disk.free)} are free on the disk for {space.path}"
        mend = f"Make room; to see what is big: sudo du -xhd1 {disk.at} | sort -h | tail"
        if disk.free < space.least:
            fact = f"Only {free}; {_gib(space.least)} are needed."
            yield Verdict("disk", Level.BAD, fact, mend)
        elif disk.inodes_free is not None and disk.inodes_free < _INODES:
            fact = f"Only {disk.inodes_free} files can still be made on the disk for {space.path}."
            yield Verdict("disk", Level.BAD, fact, "Remove small files that nobody needs.")
        elif disk.free < space.good:
            fact = f"Only {free}; with images and servers {_gib(space.good)} are better."
            yield Verdict("disk", Level.WARN, fact, mend)
        else:
            yield Verdict("disk", Level.OK, f"{free}.")


# The Python environment alone has about 40,000 files.
_INODES = 100_000


def _processors(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    cpu, kvm, arm = facts.cpu, facts.kvm, facts.system.architecture.arm
    count = f"{cpu.usable:g} of {cpu.online} CPUs" if cpu.usable < cpu.online else _cpus(cpu.online)
    if wrong := dedicated_cpus(cpu, needs.dedicated, needs.settings):
        yield wrong
    elif cpu.mixed:
        kinds = ", ".join(f"{len(each.cpus)} x {each.model}" for each in cpu.clusters)
        fact = f"This machine has CPUs of {len(cpu.clusters)} kinds ({kinds})."
        yield Verdict("cpu", Level.NOTE, fact)
    else:
        yield Verdict("cpu", Level.OK, f"{count} may be used ({cpu.model}).")

    why = f" ({kvm.reason})" if kvm.reason else ""
    if kvm.state is KvmState.UNUSABLE and not facts.system.root:
        return  # who is not root may only lack the right to look
    if needs.kvm and not kvm.for_servers:
        for_root = "it works for root only" if kvm.root_only else ""
        yield Verdict(
            "kvm",
            Level.BAD,
            f"compute.virt_type is kvm, and KVM cannot be used here ({kvm.reason or for_root}).",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif kvm.for_servers and arm:
        width = "64-bit and 32-bit" if kvm.aarch32_el1 else "64-bit"
        emulated = "" if kvm.aarch32_el1 else "; 32-bit ones run under emulation"
        yield Verdict("kvm", Level.OK, f"{width} ARM servers run with KVM{emulated}.")
    elif kvm.usable and arm:
        yield Verdict(
            "kvm",
            Level.WARN,
            "KVM works for root only: ARM servers run under emulation, many times slower.",
            "Run: sudo groupadd -rf kvm; sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm; "
            f"{needs.command} up",
        )
    elif arm:
        yield Verdict(
            "kvm",
            Level.WARN,
            f"KVM is {kvm.state.value}{why}: ARM servers run under emulation, many times slower.",
            "Turn on virtualization in the firmware, or use a kernel with KVM.",
        )
    elif kvm.usable:
        yield Verdict("kvm", Level.NOTE, "KVM works, but ARM servers run under emulation on x86.")
    else:
        here = "is here but cannot be used" if kvm.state is KvmState.UNUSABLE else "is absent"
        yield Verdict("kvm", Level.NOTE, f"KVM {here}{why}: ARM servers run under emulation.")


def dedicated_cpus(cpu: Cpu, dedicated: frozenset[int], settings: Path) -> Verdict | None:
    """What is wrong with the CPUs that `compute.dedicated_cpus` names."""
    if not dedicated or dedicated < cpu.numbers:
        return None
    return Verdict(
        "cpu",
        Level.BAD,
        f"compute.dedicated_cpus in {settings} names CPUs that this machine has not, or all of "
        f"them; it has {','.join(map(str, sorted(cpu.numbers)))}.",
        "Name some of these, and leave at least one to the other servers.",
    )


def _packages(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    packages = facts.packages
    manager = registry.find(facts.system.distribution).manager
    if not packages.present:
        fact = f"There is no {manager.programs} here."
        yield Verdict("packages", Level.BAD, fact, f"Use {registry.supported_names()}.")
        return
    if packages.lock:
        yield Verdict(
            "packages",
            # With everything installed nobody has to wait for the lock.
            Level.NOTE if needs.installed else Level.BAD,
            f"The package system is in use by {packages.lock}.",
            f"Wait until it has ended; to see what it does: ps -fp {packages.lock.pid}",
        )
        return  # what an installation at work leaves half done is no damage
    if needs.cut_off:
        fact = "An installation of packages was cut off; the next `dozen up` finishes it."
        yield Verdict("packages", Level.NOTE, fact)
        return
    if packages.damaged:
        yield Verdict(
            "packages",
            Level.BAD,
            f"{_named(packages.damaged)} {_is(packages.damaged)} only half installed.",
            f"Run: sudo {manager.to_reinstall(*packages.damaged)}",
        )
    if packages.unconfigured:
        yield Verdict(
            "packages",
            Level.BAD,
            f"{_named(packages.unconfigured)} {_is(packages.unconfigured)} installed but not "
            "configured.",
            f"Run: sudo {manager.to_configure()}",
        )
    # A half-installed package breaks dependencies too; its own mend comes first.
    if packages.broken and not (packages.damaged or packages.unconfigured):
        yield Verdict(
            "packages",
            Level.BAD,
            f"Installed packages do not fit together ({packages.broken}).",
            f"Run: sudo {manager.to_fit()}",
        )
    if not (packages.damaged or packages.unconfigured or packages.broken):
        yield Verdict("packages", Level.OK, "The package system is in order.")


def _network(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    network = facts.network
    if needs.kernel_switch and network.datapath is not Datapath.SYSTEM:
        yield Verdict(
            "datapath",
            Level.BAD,
            "network.datapath is system, and the kernel has not both Open vSwitch and Geneve or "
            "VXLAN.",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif needs.geneve and network.datapath is Datapath.SYSTEM and not network.geneve:
        yield Verdict(
            "datapath",
            Level.BAD,
            "network.tunnels is geneve, and the kernel has VXLAN only.",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif network.datapath is Datapath.SYSTEM:
        words = "Geneve" if network.geneve else "VXLAN, but not Geneve"
        yield Verdict("datapath", Level.OK, f"The kernel has Open vSwitch and {words}.")
    else:
        yield Verdict(
            "datapath",
            Level.NOTE,
            "The kernel has not both Open vSwitch and Geneve or VXLAN, so packets are moved in user"
            " space (slower).",
        )
    for name, what, works, reason in (
        ("tun", "TAP devices", network.tun, network.tun_reason),
        ("namespaces", "Network namespaces", network.namespaces, network.namespaces_reason),
        ("nftables", "nftables", network.nftables, network.nftables_reason),
    ):
        if works:
            yield Verdict(name, Level.OK, f"{what} can be used.")
        elif facts.system.root:
            yield Verdict(
                name,
                Level.BAD,
                f"{what} cannot be used here ({reason}).",
                "Use the distribution's own kernel; in a container, allow it there.",
            )


def forwarding(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Whether other firewalls of this machine let pass what the cloud's devices carry."""
    if not (facts.walls and needs.passing):
        return
    closed = [(w, device) for w in facts.walls for device in needs.passing if not w.lets(device)]
    for wall, device in closed:
        yield Verdict(
            "forwarding",
            Level.WARN,
            f"A firewall of this machine ({wall.program}, chain {wall.chain}) drops what passes "
            f"through {device}: servers do not get out that way, and nobody else in.",
            f"Run: {_let_through(wall, device)}",
        )
    if not closed:
        fact = f"The firewall of this machine lets pass what goes through {_named(needs.passing)}."
        yield Verdict("forwarding", Level.OK, fact)


def _entrance(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Whether firewalld lets others in to what the cloud offers them."""
    if facts.entrance is None:
        return
    own = {*needs.own, *needs.passing}
    closed = [port for port in needs.public if not facts.entrance.lets(port, own)]
    for port in closed:
        yield Verdict(
            "firewalld",
            Level.WARN,
            f"firewalld rejects what other machines send to port {port}: they do not reach the"
            " cloud.",
            f"Run: sudo firewall-cmd --permanent --add-port={port}/tcp; sudo firewall-cmd --reload "
            "(the ports of nodes: docs/nodes.md)",
        )


FIREWALLD_POLICY = "dozencloud"


def _let_through(wall: Wall, device: str) -> str:
    """Commands that let pass what comes from and goes to the device."""
    if wall.program == "firewall-cmd":
        rule = "sudo firewall-cmd --permanent"
        policy = f"{rule} --policy={FIREWALLD_POLICY}"
        return "; ".join(
            [
                f"{rule} --zone=trusted --add-interface={device}",
                f"{rule} --new-policy={FIREWALLD_POLICY}",
                f"{policy} --add-ingress-zone=ANY",
                f"{policy} --add-egress-zone=trusted",
                f"{policy} --set-target=ACCEPT",
                "sudo firewall-cmd --reload",
            ]
        )
    if wall.program == "nft":
        rule = f"sudo nft insert rule {wall.chain}"
        return f'{rule} iifname "{device}" accept; {rule} oifname "{device}" accept'
    rule = f"sudo {wall.program} -I {wall.chain}"
    return f"{rule} -i {device} -j ACCEPT; {rule} -o {device} -j ACCEPT"


def _outside(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    if facts.reach is None:
        return
    asked = [
        (name, what, outcome)
        for name, what, url in (
            ("mirror", "package mirror", needs.mirror),
            ("index", "Python package index", needs.index),
        )
        if url and (outcome := facts.reach.of(url))
    ]
    if not facts.reach.default_route and not all(outcome.reached for *_, outcome in asked):
        yield Verdict(
            "network",
            Level.NOTE if needs.installed else Level.BAD,
            "This machine has no default route, so it reaches no server outside.",
            "Connect it to a network; to see what it has: ip route",
        )
        return
    for name, what, outcome in asked:
        through = f" through the proxy {outcome.proxy}" if outcome.proxy else ""
        if outcome.reached:
            yield Verdict(name, Level.OK, f"The {what} answers{through} ({outcome.url}).")
        else:
            yield Verdict(
                name,
                Level.NOTE if needs.installed else Level.BAD,
                f"The {what} {outcome.url} cannot be reached{through}: {outcome.reason}.",
                _mend_reach(outcome, registry.find(facts.system.distribution)),
            )


def _mend_reach(outcome: Outcome, system: Distribution) -> str:
    if "resolve" in outcome.reason:
        return "Set a name server that works in /etc/resolv.conf."
    if "certificate" in outcome.reason:
        return "Check the clock (date -u), and whether a proxy with its own CA is in between."
    if outcome.proxy:
        return f"Check the proxy settings (http_proxy, https_proxy, {system.manager.proxy})."
    return f"Try: curl -I {outcome.url}; behind a proxy, set https_proxy and http_proxy."


def _ranges(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    if not needs.ranges:
        return
    clashes = [
        Verdict(
            "addresses",
            Level.BAD,
            f"{one} and {other.what} ({other.network}) overlap.",
            _move(other if other.setting else one, needs),
        )
        for one, other in combinations(needs.ranges, 2)
        if one.network.overlaps(other.network)
    ]
    for each in (each for each in needs.ranges if not each.shared):
        clashes += _in_the_way(each, facts, needs)
        clashes += _swallowed(each, facts, needs)
    yield from clashes
    if not clashes:
        fact = f"Nothing else has {_named(str(each.network) for each in needs.ranges)}."
        yield Verdict("addresses", Level.OK, fact)


def _in_the_way(ours: Range, facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Routes of this machine to addresses of that range."""
    for route in facts.routes:
        there = route.network
        if route.device in needs.own or not there.overlaps(ours.network):
            continue
        wider = there != ours.network and there.supernet_of(ours.network)
        if wider and ours.fixed:
            continue
        if not ours.routed:
            yield Verdict(
                "addresses",
                Level.WARN,
                f"{ours} has addresses of {there}, which "
                f"{route.device} leads to: servers do not reach what is there.",
                _move(ours, needs),
            )
        elif wider and route.gateway:
            yield Verdict(
                "addresses",
                Level.WARN,
                f"{ours} would hide a part of {there}, which is behind {route.gateway}, from this "
                "machine.",
                _move(ours, needs),
            )
        else:
            yield Verdict(
                "addresses",
                Level.BAD,
                f"The network {ours.network} of {ours.what} leads to the device {route.device} "
                "already.",
                _move(ours, needs),
            )


def _swallowed(ours: Range, facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Machines that would not be reached any more."""
    far = [*needs.far, *(("this machine's name server", each) for each in facts.name_servers)]
    for name, address in far:
        if ipaddress.IPv4Address(address) in ours.network:
            whose = "this machine" if ours.routed else "servers"
            yield Verdict(
                "addresses",
                Level.BAD if ours.routed else Level.WARN,
                f"{ours} would hide {name}, {address}, from {whose}.",
                _move(ours, needs),
            )


def _move(ours: Range, needs: Needs) -> str:
    if not ours.setting:
        return "Choose another --root: its name decides the addresses."
    if ours.made:
        return (
            "The cloud was made with it: change the other's addresses, or destroy the cloud and "
            f"bring it up anew with another {ours.setting} in {needs.settings}."
        )
    section, _, name = ours.setting.partition(".")
    return (
        f'Choose one that is free, e.g. {name} = "10.99.0.0/24" under [{section}] in '
        f"{needs.settings}."
    )


def _ports(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    free = []
    for port in needs.ports:
        owner = facts.port_owner(port.port, port.address)
        if owner is None or owner.pid in port.ours:
            free.append(port.port)
            continue
        if owner.pid is None and not facts.system.root:
            fact = f"Port {port.port} is taken; without root it cannot be seen by whom."
            yield Verdict(f"port {port.name}", Level.NOTE, fact)
            continue
        stop = (
            f"Stop it, or set {port.setting} in {needs.settings}." if port.setting else "Stop it."
        )
        yield Verdict(
            f"port {port.name}", Level.BAD, f"Port {port.port} is taken by {owner}.", stop
        )
    if free:
        numbers = ", ".join(str(number) for number in sorted(set(free)))
        what = f"Port {numbers} is" if len(set(free)) == 1 else f"Ports {numbers} are"
        yield Verdict("ports", Level.OK, f"{what} free or held by this cloud.")


def _leftovers(needs: Needs) -> Iterator[Verdict]:
    if not needs.leftovers.empty:
        yield Verdict(
            "leftovers",
            Level.BAD,
            f"An earlier cloud was removed only in part: {_named(needs.leftovers.lines())}.",
            f"Run: {needs.command} destroy --yes",
        )


def _environment(needs: Needs) -> Iterator[Verdict]:
    if needs.environment:
        fact = f"The Python environment in {needs.environment} is not there yet; `up` makes it."
        yield Verdict("environment", Level.NOTE, fact)


def _named(things: Iterable[str]) -> str:
    things = list(things)
    shown, more = things[:_MAX_NAMED], len(things) - _MAX_NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _is(things: tuple[str, ...]) -> str:
    return "is" if len(things) == 1 else "are"


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"
