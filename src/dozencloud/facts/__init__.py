"""What this machine is and can do: read-only, cheap, from the standard library alone.

Every other part asks here and never probes for itself. Nothing outside the standard library is
imported, so that a machine can be judged before the Python environment exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path

from dozencloud.facts.board import board, temperature
from dozencloud.facts.capabilities import lacking
from dozencloud.facts.clock import Clock, clock
from dozencloud.facts.cpu import Cpu, cpu
from dozencloud.facts.datapath import Datapath, Network, network
from dozencloud.facts.firewalld import Entrance, entrance
from dozencloud.facts.firmware import Emulators, emulators
from dozencloud.facts.forwarding import Wall, walls
from dozencloud.facts.kvm import Kvm, KvmState, kvm
from dozencloud.facts.memory import Disk, Memory, disk, memory
from dozencloud.facts.packages import Packages, packages
from dozencloud.facts.ports import Listener, Protocol, listeners, owner_in, port_owner
from dozencloud.facts.reach import Reach, Target, reach
from dozencloud.facts.routes import Route, name_servers, routes
from dozencloud.facts.selinux import enforcing
from dozencloud.facts.system import System, os_release, system
from dozencloud.facts.traces import Markers, Trace, Traces, find_traces

__all__ = [
    "Clock",
    "Cpu",
    "Datapath",
    "Disk",
    "Emulators",
    "Entrance",
    "Facts",
    "Kvm",
    "KvmState",
    "Listener",
    "Markers",
    "Memory",
    "Network",
    "Packages",
    "Reach",
    "Route",
    "System",
    "Target",
    "Trace",
    "Traces",
    "Wall",
    "board",
    "find_traces",
    "forget",
    "gather",
    "port_owner",
    "temperature",
    "walls",
]


@dataclass(frozen=True)
class Facts:
    """Everything that was read, at one moment."""

    system: System
    clock: Clock
    cpu: Cpu
    kvm: Kvm
    memory: Memory
    emulators: Emulators
    network: Network
    packages: Packages
    listeners: tuple[Listener, ...]
    incapable: tuple[str, ...] = ()
    """Capabilities that root lacks here (`capabilities.NUMBERS`)."""
    walls: tuple[Wall, ...] = ()
    entrance: Entrance | None = None
    """What firewalld lets in; None where it does not run."""
    selinux: bool = False
    """It forbids what its policy does not allow."""
    routes: tuple[Route, ...] = ()
    name_servers: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    reach: Reach | None = None
    """None: nobody asked for the servers outside."""

    def port_owner(
        self,
        port: int,
        address: str = "0.0.0.0",  # noqa: S104
        protocol: Protocol = "tcp",
    ) -> Listener | None:
        """Who was in the way of `address`:`port` when the facts were gathered."""
        return owner_in(self.listeners, port, address, protocol)

    @property
    def lacks_keeper(self) -> bool:
        """Nothing keeps the clock, and chrony could without taking another one's place."""
        # Without systemd it does not start by itself, even where we have installed it.
        startable = set[str]() if self.system.systemd else {"chronyd"}
        return self.clock.settable and not self.clock.keeper and set(self.clock.idle) <= startable

    def to_json(self) -> dict[str, object]:
        """The same as plain values that `json.dumps` takes."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def gather(paths: tuple[Path, ...] = (), targets: tuple[Target, ...] = ()) -> Facts:
    """Read everything, once per process.

    paths: where disk space will be needed.
    targets: servers to try, up to 3 s; without them nothing leaves the machine.
    """
    return _gathered(tuple(paths), tuple(targets))


def forget() -> None:
    """Make the next `gather` read anew."""
    _gathered.cache_clear()
    _local.cache_clear()


@cache
def _gathered(paths: tuple[Path, ...], targets: tuple[Target, ...]) -> Facts:
    return replace(
        _local(),
        disks=tuple(disk(path) for path in paths),
        reach=reach(targets) if targets else None,
    )


@cache
def _local() -> Facts:
    with ThreadPoolExecutor() as pool:
        # They wait for programs; the rest reads files meanwhile.
        packages_ = pool.submit(packages, os_release().family)
        network_ = pool.submit(network)
        system_ = pool.submit(system)
        walls_ = pool.submit(walls)
        entrance_ = pool.submit(entrance)
        return Facts(
            clock=clock(),
            cpu=cpu(),
            kvm=kvm(),
            memory=memory(),
            emulators=emulators(),
            listeners=listeners(),
            incapable=lacking(),
            routes=routes(),
            name_servers=name_servers(),
            network=network_.result(),
            packages=packages_.result(),
            system=system_.result(),
            walls=walls_.result(),
            entrance=entrance_.result(),
            selinux=enforcing(),
        )


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value) if isinstance(value, Path | IPv4Network) else value
