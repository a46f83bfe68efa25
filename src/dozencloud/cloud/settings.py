"""Every setting of a cloud, typed, with its default and its meaning.

A person edits `cloud.toml`; whatever is not in it has the default from here.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from dozencloud.downloads import Allowed
from dozencloud.errors import Exit, Problem

CLOUD_FILE = "cloud.toml"
SERIAL_PORTS = (20000, 20999)
"""First and last TCP port on loopback for the serial lines of servers."""
SCREEN_PORTS = (21000, 21999)
"""First and last TCP port on loopback for the screens of servers (VNC)."""
DATAPATHS = ("auto", "system", "netdev")
GENEVE, VXLAN = "geneve", "vxlan"
"""Encapsulations, as OVN names them (ovn-encap-type, ovn-controller(8))."""
TUNNELS = ("auto", GENEVE, VXLAN)
OLDEST_OVN = "23.03"
"""Of the systems that nodes may have."""
VIRT_TYPES = ("auto", "kvm", "qemu")
HOST_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
MOST_DNS = 5
"""Name servers of a subnet: Neutron's `max_dns_nameservers`."""
PROJECT_PREFIX = 26
"""Length of the prefix of the networks that projects get by themselves."""
NOT_FOR_MACHINES: Mapping[str, str] = {
    "0.0.0.0/8": "addresses of no machine",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
"""IPv4 networks that no network card is in (RFC 6890, RFC 5771), and what they are."""


UP = "`up`"
FIRST_UP = "first `up` only"
"""What applies a changed setting."""


def setting(default: Any, doc: str, *, applied: str = UP, see: str = "") -> Any:
    """A field of a settings section; cloud.toml and docs/operations.md show all of it.

    doc: what it means, in sentences. applied: what applies a change. see: a place in the documents
    that tells more, below docs/.
    """
    return field(default=default, metadata={"doc": doc, "applied": applied, "see": see})


@dataclass(frozen=True)
class Gateway:
    """The one public port."""

    port: int = setting(443, "The only public port: TLS for every API.")
    address: str = setting(
        "",
        "Address or name that users reach the gateway by; empty: this machine's own main address.",
        see="operations.md#the-gateways-address",
    )


@dataclass(frozen=True)
class Network:
    """Addresses of the networks that `up` registers."""

    provider_cidr: str = setting(
        "",
        "Network of the floating IPs, at least a /27; empty: 172.24.4.0/24, or with --root one "
        "from 198.19.0.0/16.",
        applied=FIRST_UP,
    )
    provider_interface: str = setting(
        "",
        "Network card of this machine, or bridge of the kernel, in whose network the floating IPs "
        "are; the card becomes a port of a bridge. Empty: floating IPs are behind this machine.",
        applied=FIRST_UP,
        see="operations.md#floating-ips-in-your-own-network",
    )
    provider_gateway: str = setting(
        "", "With provider_interface: the router of that network.", applied=FIRST_UP
    )
    floating_range: str = setting(
        "",
        "With provider_interface: first and last address that are free for floating IPs there, "
        "such as 192.168.1.200-192.168.1.230.",
        applied=FIRST_UP,
    )
    tenant_cidr: str = setting(
        "10.12.0.0/24", "Network of the servers of the first project.", applied=FIRST_UP
    )
    project_cidr: str = setting(
        "10.13.0.0/16",
        "From here a project that has no network gets one of 64 addresses, with its first server; "
        "at least a /26, which is enough for one project.",
        applied=f"{UP}; networks that are there stay",
    )
    dns: tuple[str, ...] = setting(
        ("9.9.9.9", "1.1.1.1"),
        f"Name servers that servers are told to use; at most {MOST_DNS}.",
        applied=f"{FIRST_UP} for the network `private`",
    )
    datapath: str = setting(
        "auto",
        "Open vSwitch's datapath: system (kernel), netdev (user space), or auto: the kernel's if "
        "it has Open vSwitch. With --root always netdev.",
        applied=f"`stop`, then {UP}",
    )
    tunnels: str = setting(
        "auto",
        "Tunnels of other nodes to this machine: geneve, vxlan (the cloud can then have 4095 "
        "networks and routers in all), or auto: vxlan where the kernel moves packets and has no "
        "Geneve.",
        applied=f"{UP}; the other nodes follow by themselves",
        see="nodes.md#networks",
    )


@dataclass(frozen=True)
class Compute:
    """How this machine runs servers."""

    virt_type: str = setting(
        "auto", "kvm, qemu (emulation), or auto: KVM on ARM machines where it works."
    )
    screens: bool = setting(
        True,
        "Servers that boot with UEFI get a screen, for noVNC.",
        applied=f"{UP}; a server that runs: its next hard reboot",
    )
    reserved_memory: int = setting(512, "MiB that servers never get, for the machine itself.")
    dedicated_cpus: str = setting(
        "",
        "CPUs (such as 2-3,6) for servers whose flavor says hw:cpu_policy=dedicated, each with its "
        "own; the other servers share the rest.",
        applied=f"{UP}, while no such server runs",
        see="servers.md#flavors-for-measuring",
    )
    hang_seconds: int = setting(
        20,
        "Seconds of processor time that a server may use after power-on without a byte on its "
        "console, before that is called a hang; 0: servers are not watched.",
        see="servers.md#when-a-server-hangs",
    )


@dataclass(frozen=True)
class Internal:
    """Ports that only this machine can reach (loopback)."""

    api: int = setting(17774, "Port on loopback: APIs among the services.")
    broker: int = setting(17672, "Port on loopback: RabbitMQ.")
    broker_cluster: int = setting(17673, "Port on loopback: RabbitMQ's own Erlang distribution.")
    broker_names: int = setting(
        17674, "Port on loopback: Erlang's port mapper (epmd), which RabbitMQ insists on."
    )
    consoles: int = setting(17775, "Port on loopback: Nova's console proxy.")
    node_consoles: int = setting(
        17776,
        "Port on loopback: from Nova's console proxy to the consoles of servers on nodes; open "
        "once a node has joined.",
    )


@dataclass(frozen=True)
class Nodes:
    """Machines that join: ports of the controller, TLS, open from the first on; their trust."""

    broker: int = setting(5671, "Port for nodes, with TLS: RabbitMQ; open once one has joined.")
    southbound: int = setting(
        6642, "Port for nodes, with TLS: OVN's southbound database; open once one has joined."
    )
    migration: bool = setting(
        False,
        "Servers migrate between nodes that joined. These must trust each other for it: who takes "
        "over one of them can then take over all, but not the controller.",
        applied=f"{UP}, on the controller; nodes follow within a minute",
        see="nodes.md#migration",
    )
    ovn: str = setting(
        "",
        "Series of OVN that networks are written in; empty: this system's. Nodes with an older "
        f'one read only "{OLDEST_OVN}", which is that of Debian 12.',
        see="nodes.md#systems",
    )


@dataclass(frozen=True)
class Services:
    """How the services run."""

    preload: bool = setting(
        True,
        "Python services are forked from one parent that has their libraries loaded.",
        applied=f"{UP}, which stops and starts the services; servers go on",
    )
    threads: int = setting(8, "Requests that each API serves at a time, 1 to 64.")


@dataclass(frozen=True)
class Image:
    """Where images come from."""

    mirror: str = setting(
        "http://deb.debian.org/debian",
        "Debian archive for ARM images; `dozen doctor` asks it, too.",
        applied=FIRST_UP,
    )
    suite: str = setting(
        "trixie",
        "Debian release that ARM images are made from; the one before while the mirror updates it.",
        applied=FIRST_UP,
    )
    mirrors: tuple[str, ...] = setting(
        (),
        "PUBLISHER=ADDRESS: where `dozen image get` fetches from instead.",
        applied="the next `image get`",
    )
    download_from: tuple[str, ...] = setting(
        (),
        "Addresses and networks, such as 10.1.0.0/16 or 10.1.2.3:8080, from which users may have "
        "images fetched (web-download), although they are not public; without a port: 80 and 443.",
    )


@dataclass(frozen=True)
class Settings:
    """All that cloud.toml may say."""

    gateway: Gateway = Gateway()
    network: Network = Network()
    compute: Compute = Compute()
    internal: Internal = Internal()
    nodes: Nodes = Nodes()
    services: Services = Services()
    image: Image = Image()


def parse(data: Mapping[str, Any], where: str = CLOUD_FILE) -> Settings:
    """Settings from the content of a cloud.toml; Problem (USAGE) on an unknown or wrong one."""
    sections = {f.name: f for f in fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, content in data.items():
        if name not in sections:
            raise _unknown(where, "section", name, sections)
        if not isinstance(content, Mapping):
            raise _wrong(where, name, "a section", content)
        chosen[name] = _section(type(sections[name].default), name, content, where)
    settings = Settings(**chosen)
    _check(settings, where)
    return settings


def _section(kind: type, name: str, content: Mapping[str, Any], where: str) -> Any:
    types = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise _unknown(where, f"setting in [{name}]", key, known)
        wanted = types[key]
        if wanted == tuple[str, ...]:
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise _wrong(where, f"{name}.{key}", "a list of texts", value)
            value = tuple(value)
        elif type(value) is not wanted:
            words = {int: "a whole number", str: "a text", bool: "true or false"}
            raise _wrong(where, f"{name}.{key}", words[wanted], value)
        values[key] = value
    return kind(**values)


def _unknown(where: str, what: str, name: str, known: Any) -> Problem:
    near = difflib.get_close_matches(name, list(known), 1)
    mend = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
    return Problem(f"{where}: there is no {what} called {name}.", mend, code=Exit.USAGE)


def _wrong(where: str, name: str, wanted: str, value: object) -> Problem:
    return Problem(
        f"{where}: {name} must be {wanted}, not {json.dumps(value, default=str)}.",
        "Mend that line.",
        code=Exit.USAGE,
    )


def _check(settings: Settings, where: str) -> None:
    ports = {"gateway.port": settings.gateway.port} | {
        f"{section}.{f.name}": getattr(getattr(settings, section), f.name)
        for section, kind in (("internal", Internal), ("nodes", Nodes))
        for f in fields(kind)
        if f.type == "int"
    }
    for name, port in ports.items():
        if not 0 < port < 65536:
            raise _wrong(where, name, "a port from 1 to 65535", port)
        if SERIAL_PORTS[0] <= port <= SCREEN_PORTS[1]:
            kept = f"{SERIAL_PORTS[0]} to {SCREEN_PORTS[1]}, which are for consoles of servers"
            raise _wrong(where, name, f"none of the ports {kept}", port)
    twice = {p for p in ports.values() if list(ports.values()).count(p) > 1}
    if twice:
        names = " and ".join(n for n, p in ports.items() if p in twice)
        raise Problem(f"{where}: {names} are the same port.", "Give each its own.", code=Exit.USAGE)
    for name, value, choices in (
        ("network.datapath", settings.network.datapath, DATAPATHS),
        ("network.tunnels", settings.network.tunnels, TUNNELS),
        ("compute.virt_type", settings.compute.virt_type, VIRT_TYPES),
        ("nodes.ovn", settings.nodes.ovn, ("", OLDEST_OVN)),
    ):
        if value not in choices:
            raise _wrong(where, name, f"one of {', '.join(choices)}", value)
    for name, cidr, longest in (
        ("network.provider_cidr", settings.network.provider_cidr, 27),
        ("network.tenant_cidr", settings.network.tenant_cidr, 27),
        ("network.project_cidr", settings.network.project_cidr, PROJECT_PREFIX),
    ):
        if cidr or name != "network.provider_cidr":
            _check_cidr(where, name, cidr, longest)
    _check_provider(settings.network, where)
    for name, value, pattern, wanted in (
        ("image.mirror", settings.image.mirror, r"(https?|file)://\S+", "an address (http://…)"),
        ("image.suite", settings.image.suite, r"[a-z0-9][a-z0-9.-]*", "the name of a release"),
    ):
        if not re.fullmatch(pattern, value):
            raise _wrong(where, name, wanted, value)
    for place in settings.image.download_from:
        try:
            Allowed.parse(place)
        except ValueError:
            wanted = "a list of addresses and networks, each perhaps with :PORT"
            raise _wrong(where, "image.download_from", wanted, place) from None
    _check_dns(settings.network.dns, where)
    _check_address(settings.gateway.address, where)
    threads = settings.services.threads
    if not 1 <= threads <= 64:
        raise _wrong(where, "services.threads", "a number from 1 to 64", threads)
    reserved = settings.compute.reserved_memory
    if reserved < 0:
        raise _wrong(where, "compute.reserved_memory", "a number of MiB", reserved)
    parse_cpus(settings.compute.dedicated_cpus, where)
    patience = settings.compute.hang_seconds
    if patience < 0:
        raise _wrong(where, "compute.hang_seconds", "a number of seconds", patience)


def _check_dns(servers: tuple[str, ...], where: str) -> None:
    addresses = []
    for server in servers:
        try:
            addresses.append(ipaddress.ip_address(server))
        except ValueError:
            raise _wrong(where, "network.dns", "a list of IP addresses", server) from None
        if addresses[-1].is_loopback or addresses[-1].is_unspecified or addresses[-1].is_multicast:
            wanted = "a list of addresses that servers can ask"
            raise _wrong(where, "network.dns", wanted, server)
    if len(servers) > MOST_DNS or len(set(addresses)) < len(addresses):
        wanted = f"at most {MOST_DNS} addresses, each once"
        raise _wrong(where, "network.dns", wanted, list(servers))


def _check_address(address: str, where: str) -> None:
    """An IPv4 address that others can connect to, or a host name (RFC 1123); empty: none."""
    if not address:
        return
    try:
        number = ipaddress.IPv4Address(address)
        good = not (number.is_unspecified or number.is_multicast or number.is_reserved)
    except ValueError:
        labels = address.split(".")
        # Clients read what ends in a number as an address (inet_aton(3): 10.1 is 10.0.0.1).
        good = len(address) <= 253 and not labels[-1].isdigit()
        good = good and all(re.fullmatch(HOST_LABEL, label) for label in labels)
    if not good:
        raise _wrong(where, "gateway.address", "an IPv4 address or host name", address)


def parse_cpus(words: str, where: str) -> frozenset[int]:
    """Numbers of CPUs from `compute.dedicated_cpus`: numbers and ranges, with commas between."""
    found: set[int] = set()
    for word in filter(None, words.split(",")):
        numbers = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", word)
        if not numbers or int(numbers[2] or numbers[1]) < int(numbers[1]):
            raise _wrong(where, "compute.dedicated_cpus", "CPUs such as 2-3,6", words)
        found.update(range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1))
    return frozenset(found)


def _check_cidr(where: str, name: str, cidr: str, longest: int) -> None:
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise Problem(f"{where}: {name}: {error}.", "Mend that line.", code=Exit.USAGE) from error
    for special, what in NOT_FOR_MACHINES.items():
        if network.overlaps(ipaddress.IPv4Network(special)):
            wanted = f"a network that machines can be in, without {special} ({what})"
            raise _wrong(where, name, wanted, cidr)
    if network.prefixlen > longest:
        size = 2 ** (32 - longest)
        raise _wrong(where, name, f"a network of at least {size} addresses (/{longest})", cidr)


def _check_provider(network: Network, where: str) -> None:
    """What must be said together with the interface, and does not count without."""
    told = {
        f"network.{name}": getattr(network, name)
        for name in ("provider_cidr", "provider_gateway", "floating_range")
    }
    if not network.provider_interface:
        for name in ("network.provider_gateway", "network.floating_range"):
            if told[name]:
                raise Problem(
                    f"{where}: {name} counts only with network.provider_interface.",
                    "Name the interface, or remove that line.",
                    code=Exit.USAGE,
                )
        return
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", network.provider_interface):
        name = "network.provider_interface"
        raise _wrong(where, name, "the name of a network card", network.provider_interface)
    for name, value in told.items():
        if not value:
            raise Problem(
                f"{where}: with network.provider_interface, {name} must be said, too.",
                "Ask the network's router, or who looks after it.",
                code=Exit.USAGE,
            )
    there = ipaddress.IPv4Network(network.provider_cidr)
    inside = f"in {there}, the network of network.provider_cidr"
    try:
        router = ipaddress.IPv4Address(network.provider_gateway)
    except ValueError:
        router = None
    if router is None or router not in there:
        name = "network.provider_gateway"
        raise _wrong(where, name, f"an address {inside}", network.provider_gateway)
    try:
        first, last = map(ipaddress.IPv4Address, network.floating_range.split("-"))
    except ValueError:
        first = last = router
    # One is the router's of the first project.
    if first not in there or last not in there or first >= last or first <= router <= last:
        name, wanted = "network.floating_range", f"FIRST-LAST, {inside}, without its router"
        raise _wrong(where, name, wanted, network.floating_range)


def template(settings: Settings | None = None) -> str:
    """Text of a cloud.toml with every setting, its meaning, and its default as a comment."""
    lines = [
        "# DozenCloud: settings of this cloud. Every default works.",
        "# Change one, then run `dozen up`: it applies just that.",
    ]
    for section in fields(Settings):
        lines += ["", f"[{section.name}]"]
        chosen = getattr(settings or Settings(), section.name)
        for item in fields(chosen):
            value = getattr(chosen, item.name)
            mark = "# " if value == item.default else ""
            lines += [f"# {item.metadata['doc']}", f"{mark}{item.name} = {as_toml(value)}"]
    return "\n".join(lines) + "\n"


def as_toml(value: object) -> str:
    """A value as TOML: JSON, but TOML knows no surrogate pairs and wants DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
