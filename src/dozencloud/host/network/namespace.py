"""The network namespace of a cloud with a root of its own, and devices and addresses in it."""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dozencloud.cloud.installation import ETHERNET, Cloud, main_address
from dozencloud.facts.run import ask
from dozencloud.tasks.graph import Step

SIOCGIFADDR, SIOCGIFMTU = 0x8915, 0x8921  # netdevice(7)
SECONDS = 60.0
"""Within which ip(8), nft(8) and their like end, also on a busy board."""

# A private /sys shows the devices of the namespace (os-vif looks there); a private /run/netns
# keeps the metadata namespaces of this cloud apart and lets them vanish with its processes. The
# control groups below the old /sys are carried over.
ENTER_SCRIPT = """
set -eu
mkdir -p /run/netns
mount -t tmpfs -o mode=0755,size=1m tmpfs /run/netns
mkdir /run/netns/cgroup
mount --rbind /sys/fs/cgroup /run/netns/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/netns/cgroup /sys/fs/cgroup
umount --recursive --lazy /run/netns/cgroup
rmdir /run/netns/cgroup
exec "$@"
"""


def _apart(cloud: Cloud) -> bool:
    """Whether the cloud's network is another one than that of this process.

    Its own services are in there already, and do not see the namespace's name (ENTER_SCRIPT).
    """
    name, _, value = cloud.marker.partition("=")
    return cloud.namespace is not None and os.environ.get(name) != value


CLONE_NEWNET = 0x40000000  # setns(2)


@contextmanager
def within(cloud: Cloud) -> Iterator[None]:
    """The calling thread is in the cloud's network namespace; its new sockets stay there.

    os.setns exists from Python 3.12 on only.
    """
    if not _apart(cloud):
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open() as back,
        Path("/run/netns", str(cloud.namespace)).open() as there,
    ):
        if library.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {cloud.namespace}")
        try:
            yield
        finally:
            library.setns(back.fileno(), CLONE_NEWNET)


def ip(cloud: Cloud, *words: str) -> list[str]:
    """ip(8) in the cloud's network namespace."""
    return ["ip", *(("-n", str(cloud.namespace)) if _apart(cloud) else ()), *words]


def enter(cloud: Cloud, command: Sequence[str]) -> list[str]:
    """Command line that starts `command` where the cloud's processes live."""
    if not cloud.namespace:
        return list(command)
    return [
        *("nsenter", f"--net=/run/netns/{cloud.namespace}"),
        *("unshare", "--mount", "--propagation", "private"),
        *("sh", "-c", ENTER_SCRIPT, "sh", *command),
    ]


def inside(cloud: Cloud, pid: int, command: Sequence[str]) -> list[str]:
    """Command line that runs `command` in the namespaces of the running supervisor `pid`."""
    if not cloud.namespace:
        return list(command)
    return ["nsenter", f"--target={pid}", "--mount", "--net", *command]


def own_address(cloud: Cloud) -> str:
    """IPv4 address by which other machines of the cloud reach this one."""
    wished = cloud.settings.gateway.address
    if wished and is_here(cloud, wished):
        return wished
    return cloud.link[1] if cloud.root else main_address()


def is_here(cloud: Cloud, name: str) -> bool:
    """Whether it is an address of this machine, no name, and no other machine's that forwards."""
    try:
        # Before the first `up` there is no namespace, and no address in it.
        with within(cloud), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ipaddress.IPv4Address(name)), 0))
    except (OSError, ValueError):
        return False
    return True


def mtu_of(address: str) -> int:
    """Bytes that packets of the device with this address may have; at most Ethernet's.

    Asked of the kernel: on a fresh machine there may be no ip(8) yet.
    """
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # without an address, or gone
                request = struct.pack("16s24x", name.encode())
                if fcntl.ioctl(probe, SIOCGIFADDR, request)[20:24] == wanted:
                    (mtu,) = struct.unpack_from("=i", fcntl.ioctl(probe, SIOCGIFMTU, request), 16)
                    return min(ETHERNET, int(mtu))
    return ETHERNET


def in_network(cloud: Cloud, command: Sequence[str]) -> list[str]:
    """Command line that runs `command` in the cloud's network namespace."""
    enter = ("nsenter", f"--net=/run/netns/{cloud.namespace}") if _apart(cloud) else ()
    return [*enter, *command]


def namespace_exists(cloud: Cloud) -> bool:
    """The namespace is there (or none is needed)."""
    return cloud.namespace is None or Path("/run/netns", cloud.namespace).exists()


def linked(cloud: Cloud, *, floating: bool) -> bool:
    """The namespace is there, and what `make_namespace` makes leads into it."""
    if cloud.namespace is None:
        return True
    if not namespace_exists(cloud):
        return False
    show = ip(cloud, "link", "show", "up", "dev", cloud.link_devices[1])
    if cloud.link_devices[1] not in ask(*show, timeout=SECONDS).output:
        return False
    networks = cloud.floating_networks if floating else ()
    return all(cloud.link_devices[0] in ways_into(network) for network in networks)


def ways_into(network: ipaddress.IPv4Network) -> set[str]:
    """Devices by which this machine reaches addresses of that network, beside the default one."""
    show = ["ip", "-json", "route", "show", "root", str(network)]
    said = ask(*show, timeout=SECONDS).output
    return {str(route.get("dev")) for route in json.loads(said or "[]")}


@dataclass(frozen=True)
class Device:
    """A network device. addresses: IPv4, with their lengths."""

    up: bool
    addresses: frozenset[str]


def device(cloud: Cloud, name: str) -> Device | None:
    """The device of that name in the cloud's network; None if there is none."""
    said = ask(*ip(cloud, "-json", "address", "show", "dev", name), timeout=SECONDS)
    if not said.ok:
        return None
    (found,) = json.loads(said.output)
    return Device(
        "UP" in found["flags"],
        frozenset(
            f"{each['local']}/{each['prefixlen']}"
            for each in found["addr_info"]
            if each["family"] == "inet"
        ),
    )


def device_fault(cloud: Cloud, name: str, address: str = "") -> str:
    """Why the device cannot carry packets, or not as `address`; empty if it can."""
    found = device(cloud, name)
    if found is None:
        return f"the network device {name} is gone"
    if not found.up:
        return f"the network device {name} is down"
    if address and address not in found.addresses:
        return f"the network device {name} has lost its address {address}"
    return ""


def make_namespace(cloud: Cloud, step: Step, *, floating: bool) -> None:
    """The network namespace of a cloud with a root of its own, linked to the machine by veth.

    floating: this machine reaches floating IPs by it; those of a node are its controller's.
    """
    if cloud.namespace is None:
        return
    host, inner = cloud.link_devices
    host_address, inner_address = cloud.link
    if not namespace_exists(cloud):
        step.run(["ip", "netns", "add", cloud.namespace])
    if step.run(ip(cloud, "link", "show", inner), check=False).returncode:
        # A namespace that was deleted while processes were in it keeps its end of the link.
        if Path("/sys/class/net", host).exists():
            step.run(["ip", "link", "delete", host])
        step.run(
            ["ip", "link", "add", host, "type", "veth", "peer", inner, "netns", cloud.namespace]
        )
    step.run(["ip", "address", "replace", f"{host_address}/30", "dev", host])
    step.run(["ip", "link", "set", host, "up"])
    step.run(ip(cloud, "link", "set", "lo", "up"))
    step.run(ip(cloud, "address", "replace", f"{inner_address}/30", "dev", inner))
    step.run(ip(cloud, "link", "set", inner, "up"))
    step.run(ip(cloud, "route", "replace", "default", "via", host_address))
    for network in cloud.floating_networks if floating else ():
        step.run(["ip", "route", "replace", str(network), "via", inner_address, "dev", host])
    # /proc/sys/net shows the network namespace of whoever opens it.
    step.run(
        [
            *("nsenter", f"--net=/run/netns/{cloud.namespace}"),
            *("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
        ]
    )


def there(cloud: Cloud, *words: str) -> list[str]:
    """A command in the cloud's network namespace."""
    enter = ("nsenter", f"--net=/run/netns/{cloud.namespace}") if _apart(cloud) else ()
    return [*enter, *words]


def nft(cloud: Cloud, *words: str) -> list[str]:
    """nft(8) in the cloud's network namespace."""
    return there(cloud, "nft", *words)


def switch_devices(cloud: Cloud) -> list[str]:
    """Network devices that the cloud's switch has ports on, read from its database's file.

    Bridges and the taps of servers are persistent: they outlive the switch and the servers.
    """
    if cloud.namespace:
        return []  # they go with the namespace
    file = cloud.lib / "openvswitch" / "conf.db"
    select = {"op": "select", "table": "Interface", "where": [], "columns": ["name", "type"]}
    query = ("ovsdb-tool", "query", str(file), json.dumps(["Open_vSwitch", select]))
    answer = ask(*query, timeout=SECONDS)
    if not answer.ok:
        return []
    rows = json.loads(answer.output)[0]["rows"]
    return [row["name"] for row in rows if row["type"] in ("", "internal")]


def remove_devices(cloud: Cloud, devices: Sequence[str]) -> None:
    """Bridges, links and the namespace of the cloud, whatever is left of them.

    devices: what `switch_devices` said while the database was there.
    """
    if cloud.namespace:
        devices = [cloud.link_devices[0]]
    elif devices:
        # Made by the userspace datapath for itself.
        devices = [*devices, "ovs-netdev"]
    for device in {*devices, cloud.provider_bridge}:
        if Path("/sys/class/net", device).exists():
            ask("ip", "link", "delete", device, timeout=SECONDS)
    if not cloud.namespace and Path("/sys/class/net", cloud.provider_bridge).exists():
        # A port of the kernel's datapath, whose daemon is gone.
        ask("ovs-dpctl", "del-dp", "system@ovs-system", timeout=SECONDS)
    if cloud.namespace and namespace_exists(cloud):
        ask("ip", "netns", "delete", cloud.namespace, timeout=SECONDS)
