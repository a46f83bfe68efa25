"""What the cloud asks of a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dozencloud.errors import Problem
from dozencloud.facts.system import Architecture
from dozencloud.host.distributions.needs import Need
from dozencloud.host.packagemanagers.base import PackageManager

Pairs = tuple[tuple[Path, Path], ...]
"""Flash images of firmware: the code, and the template of its variables; the best first."""


UNITS = (
    "haproxy.service",
    "memcached.service",
    "rabbitmq-server.service",
    "epmd.service",
    "epmd.socket",
    "libvirt-guests.service",
    "libvirtd.service",
    "libvirtd.socket",
    "libvirtd-admin.socket",
    "libvirtd-ro.socket",
    "virtlockd.service",
    "virtlockd.socket",
    "virtlockd-admin.socket",
    "virtlogd.service",
    "virtlogd.socket",
    "virtlogd-admin.socket",
)
"""Those that are called so everywhere, of what packages start or enable by themselves."""


@dataclass(frozen=True)
class Paths:
    """Where packages have put what a service asks for by its place.

    nginx_modules, rabbitmq: folders, of modules and of programs. The scripts of RabbitMQ that are
        on the path want to become the package's own user.
    firmware_aarch64, firmware_armv7: empty where the distribution has none.
    """

    nginx_modules: Path
    firmware_aarch64: Pairs
    firmware_armv7: Pairs
    rabbitmq: Path = Path("/usr/lib/rabbitmq/bin")
    switch_schema: Path = Path("/usr/share/openvswitch/vswitch.ovsschema")
    ovn_schemas: Path = Path("/usr/share/ovn")


@dataclass(frozen=True)
class TimeService:
    """chrony as the distribution has it: its unit, and the user that it becomes."""

    unit: str
    user: str


class Distribution(ABC):
    """A distribution in one of its versions. A class that gives `id` is known from then on."""

    known: ClassVar[dict[str, type[Distribution]]] = {}

    id: ClassVar[str]
    """ID of os-release(5)."""
    name: ClassVar[str]
    versions: ClassVar[tuple[str, ...]]
    """Supported: VERSION_ID of os-release(5)."""
    untried: ClassVar[str] = ""
    """What nobody has tried yet; a person is told so before anything is changed."""
    architectures: ClassVar[tuple[str, ...]] = ("amd64", "arm64")
    """Fit for a controller and for a node, as dpkg says them."""
    board_versions: ClassVar[tuple[str, ...]] = ()
    """Versions that have all packages of a node for 32-bit boards (armhf)."""
    manager: ClassVar[PackageManager]
    paths: ClassVar[Paths]
    time: ClassVar[TimeService]
    emulators: ClassVar[Mapping[str, str]]
    """Nova's name of an architecture -> the package that has QEMU for it."""
    units: ClassVar[tuple[str, ...]]
    """What packages start or enable by themselves; the cloud runs its own instances."""

    def __init_subclass__(cls) -> None:
        cls.known[cls.id] = cls

    def __init__(self, version: str) -> None:
        self.version = version

    @classmethod
    def names(cls) -> Iterable[str]:
        """Of the supported versions, for people."""
        return (f"{cls.name} {version}" for version in cls.versions)

    @property
    def supported(self) -> bool:
        return self.version in self.versions

    def fit(self, architecture: Architecture, *, node: bool) -> bool:
        """Whether a machine of that kind can be a controller; with `node`, be a node of one."""
        board = architecture.small and self.version in self.board_versions
        return architecture.packages in self.architectures or (node and board)

    @abstractmethod
    def packages(self, need: Need, machine: str = "") -> tuple[str, ...]:
        """Names of the packages for it, on that machine (uname -m), or for every one.

        Empty: nothing has to be installed for it, or the distribution has it not (`lacks`).
        """

    def lacks(self, need: Need) -> Problem | None:
        """What a person hears who asks for what this distribution has no package for."""
        return None

    @abstractmethod
    def bind(self, environment: Path) -> None:
        """Let that Python environment import libvirt's module."""

    def wanted(self, machine: str, needs: Iterable[Need]) -> tuple[str, ...]:
        """Names of all packages for these needs of a machine, sorted."""
        return tuple(sorted({name for need in needs for name in self.packages(need, machine)}))

    def to_install(self, need: Need) -> str:
        """The command for a person."""
        return self.manager.to_install(*self.packages(need))
