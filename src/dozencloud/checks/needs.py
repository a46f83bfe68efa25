"""What the cloud asks of the machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts import Traces

NO_TRACES = Traces()


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
