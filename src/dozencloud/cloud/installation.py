"""The Cloud: one installation, where it lives, and its names and addresses on the machine.

Everything else in the package takes a `Cloud` and never reads cloud.toml, an environment variable
or a fixed path.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import socket
import tomllib
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from dozencloud.cloud.settings import (
    CLOUD_FILE,
    Settings,
    parse,
)
from dozencloud.errors import Exit, Problem

REGION = "RegionOne"
SECRETS_FILE = "secrets.json"
MEMBERSHIP_FILE = "membership.json"
INTEGRATION_BRIDGE = "br-int"
"""The same in every cloud: Neutron binds ports to it until a node has told another name, and
caches that (neutron/common/ovn/utils.py, get_ovn_bridge_from_chassis_private)."""
NODE_CONSOLES_PORT = 6083
"""TCP port on the address of each node for the consoles of its servers: TLS, controller only."""
LIBVIRT_PORT = 16514
"""TCP port on the address of each node for the libvirtd of the others: libvirt's own for TLS."""
MIGRATION_PORTS = (49152, 49215)
"""First and last TCP port on the address of a node where its QEMUs take servers that move."""
CONSOLE_USER = "dozen-nova"
"""Besides root, the only user who may connect to these ports: the console proxy's."""
LINKS = "198.18.0.0/16"
"""Between the machine and the clouds below a root of their own, which reach each other there."""
BROKER_ANSWERS = "dozen-answers"
"""In RabbitMQ, the exchange for what nodes answer, and the queue behind it."""
# AF_UNIX paths end at 107 bytes (unix(7)); the longest one below `run` is libvirt's
# `libvirt/virtlogd-admin-sock`, and OVN adds `openvswitch/ovn-controller.PID.ctl`.
LONGEST_ROOT = 60
ROOT_CHARACTERS = r"[A-Za-z0-9/._-]*"
"""In a root. It stands in shell commands, addresses and the settings of a dozen programs, each of
which takes other characters for something else: MariaDB's scripts end at a blank."""


def is_there(etc: Path) -> bool:
    """Whether a cloud has its settings in that folder; a person may have removed cloud.toml."""
    return any((etc / name).exists() for name in (CLOUD_FILE, SECRETS_FILE, MEMBERSHIP_FILE))


@dataclass(frozen=True)
class Cloud:
    """One installation and where it lives.

    root: None for the cloud of the machine (FHS paths); else the folder that holds all of it.
    settings: what cloud.toml says.
    """

    root: Path | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def name(self) -> str:
        """Short name, unique on the machine; part of bridge, namespace and table names."""
        if self.root is None:
            return "dozen"
        # os-vif cuts names of bridges to 14 characters: br-dz12345-int.
        return f"dz{zlib.crc32(str(self.root).encode()) & 0xFFFFF:05x}"

    @property
    def etc(self) -> Path:
        return self.root / "etc" if self.root else Path("/etc/dozencloud")

    @property
    def lib(self) -> Path:
        return self.root / "lib" if self.root else Path("/var/lib/dozencloud")

    @property
    def log(self) -> Path:
        return self.root / "log" if self.root else Path("/var/log/dozencloud")

    @property
    def run(self) -> Path:
        return self.root / "run" if self.root else Path("/run/dozencloud")

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.etc, self.lib, self.log, self.run)

    @property
    def cache(self) -> Path:
        """Downloads and built images."""
        return self.lib / "cache"

    @property
    def file(self) -> Path:
        return self.etc / CLOUD_FILE

    @property
    def secrets_file(self) -> Path:
        return self.etc / SECRETS_FILE

    @property
    def exists(self) -> bool:
        return is_there(self.etc)

    # ---- names on the machine -------------------------------------------------------------

    @property
    def provider_bridge(self) -> str:
        return f"br-{self.name}-ex"

    @property
    def namespace(self) -> str | None:
        """Network namespace that a cloud with a root of its own lives in.

        Open vSwitch allows one userspace datapath (`ovs-netdev`) and one kernel datapath
        (`ovs-system`) per network namespace, so a second cloud needs a second namespace.
        """
        return f"dozen-{self.name}" if self.root else None

    @property
    def table(self) -> str:
        """nftables table with the rules of this cloud."""
        return f"dozen-{self.name}" if self.root else "dozencloud"

    @property
    def marker(self) -> str:
        """Environment entry of every process that the supervisor starts."""
        return f"DOZEN_CLOUD={self.name}:{self.run}"

    @property
    def run_marker(self) -> str:
        """Environment entry of every command that a run (`up`, `start`, `destroy`) starts."""
        return f"DOZEN_RUN={self.name}:{self.run}"

    # ---- addresses ------------------------------------------------------------------------

    @property
    def _slot(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def link(self) -> tuple[str, str]:
        """(host, inside) addresses of the veth pair into the namespace, from LINKS."""
        base = ipaddress.IPv4Network(LINKS)[0] + 4 * (self._slot % 16384)
        return str(base + 1), str(base + 2)

    @property
    def link_devices(self) -> tuple[str, str]:
        return f"{self.name}-h", f"{self.name}-c"

    @property
    def provider(self) -> ipaddress.IPv4Network:
        """Network of the floating IPs."""
        text = self.settings.network.provider_cidr
        if not text:
            text = "172.24.4.0/24" if self.root is None else f"198.19.{self._slot % 256}.0/24"
        return ipaddress.IPv4Network(text)

    @property
    def provider_address(self) -> str | None:
        """This machine's address among the floating IPs; None where it has one of its own there."""
        return None if self.settings.network.provider_interface else str(self.provider[1])

    @property
    def provider_gateway(self) -> str:
        """Router of the network of the floating IPs."""
        return self.provider_address or self.settings.network.provider_gateway

    @property
    def floating_range(self) -> tuple[str, str]:
        """First and last floating IP."""
        first, _, last = self.settings.network.floating_range.partition("-")
        return (first, last) if last else (str(self.provider[10]), str(self.provider[-6]))

    @property
    def floating_networks(self) -> list[ipaddress.IPv4Network]:
        """What the floating IPs are in, and no machine that is not of the cloud."""
        if self.provider_address:
            return [self.provider]
        return list(
            ipaddress.summarize_address_range(*map(ipaddress.IPv4Address, self.floating_range))
        )

    @property
    def tenant(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.settings.network.tenant_cidr)

    @property
    def registered(self) -> dict[str, str]:
        """What counts when `up` registers the first networks, and not again: setting -> value."""
        network = self.settings.network
        with_card = {
            "network.provider_gateway": network.provider_gateway,
            "network.floating_range": network.floating_range,
        }
        return {
            "network.provider_cidr": str(self.provider),
            "network.tenant_cidr": str(self.tenant),
            "network.dns": ", ".join(network.dns),
            **(with_card if network.provider_interface else {}),
        }

    @property
    def projects(self) -> ipaddress.IPv4Network:
        """What networks of projects are taken from."""
        return ipaddress.IPv4Network(self.settings.network.project_cidr)

    @property
    def address(self) -> str:
        """Address under which users reach the gateway."""
        if self.settings.gateway.address:
            return self.settings.gateway.address
        return self.link[1] if self.root else main_address()

    @property
    def public_url(self) -> str:
        port = self.settings.gateway.port
        return f"https://{self.address}" + ("" if port == 443 else f":{port}")

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.internal.api}"

    @property
    def ca(self) -> Path:
        return self.etc / "tls" / "ca.crt"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def libvirt_uri(self) -> str:
        return f"qemu+unix:///system?socket={self.run}/libvirt/libvirt-sock"

    def command(self, *words: str) -> str:
        """How a person types a `dozen` command for this cloud, for messages."""
        root = ("--root", str(self.root)) if self.root else ()
        return " ".join(("sudo ./dozen", *map(shlex.quote, (*root, *words))))


def main_address() -> str:
    """Address of the interface with the route to the outside; 127.0.0.1 without one.

    connect(2) on a datagram socket sends nothing, it only asks the routing table.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def at(root: Path | None) -> Cloud:
    """The cloud under `root`, whatever its cloud.toml says.

    Raises Problem (USAGE) on a root that cannot be used.
    """
    if root is not None:
        try:
            root = root.expanduser().resolve()
        except RuntimeError as error:  # a user without home; before Python 3.13: a link to itself
            raise Problem(
                f"The path {root} leads nowhere: {str(error).rstrip('.')}.",
                "Choose another --root.",
                code=Exit.USAGE,
            ) from error
        if not re.fullmatch(ROOT_CHARACTERS, str(root)):
            raise Problem(
                f"The path {root} has characters that not all programs of a cloud can take.",
                "Choose a --root of letters of English, digits, slashes, dots, - and _ only.",
                code=Exit.USAGE,
            )
        if len(str(root)) > LONGEST_ROOT:
            raise Problem(
                f"The path {root} is too long for a cloud: Unix sockets below it would not fit.",
                f"Choose a --root of at most {LONGEST_ROOT} characters.",
                code=Exit.USAGE,
            )
    return Cloud(root)


def load(root: Path | None) -> Cloud:
    """The cloud under `root`, with the settings of its cloud.toml if there is one.

    Raises Problem (USAGE) on a root that cannot be used and on any mistake in the file.
    """
    cloud = at(root)
    if not cloud.file.exists():
        return cloud
    try:
        data = tomllib.loads(cloud.file.read_text())
    except PermissionError as error:
        raise Problem(f"{cloud.file} cannot be read.", "Use sudo.", code=Exit.USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(
            f"{cloud.file} is not valid TOML: {error}.", "Mend that line.", code=Exit.USAGE
        ) from error
    return replace(cloud, settings=parse(data, str(cloud.file)))


ETHERNET = 1500
"""Bytes of a packet. More would need every wire and switch between the machines to take them."""
