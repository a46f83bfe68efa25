"""Tunnels between nodes where packets are moved in user space.

Open vSwitch then has Geneve and VXLAN of its own, which send from the address of one of its
bridges and not through the kernel. The machine's network card stays as it is: a bridge with an
address that only this machine knows is linked to the kernel, which translates between it and the
machine's.

    servers | br-int | Geneve, VXLAN | br-NAME-tun | veth | kernel: nftables, routes | network card
"""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.facts.run import ask
from dozencloud.host.network import namespace, wayout
from dozencloud.tasks.graph import Step

PORTS = {GENEVE: 6081, VXLAN: 4789}
"""UDP ports, by IANA."""
SWITCH, KERNEL = "169.254.60.81", "169.254.60.82"
"""The ends of the link. Each network namespace has its own, and they never meet."""
MAC = "02:64:7a:74:75:6e"
"""The bridge's, the same at each start: the kernel is told who has SWITCH."""
ROUTES = ("0.0.0.0/1", "128.0.0.0/1")
"""All addresses there are. Open vSwitch takes these before any that it copied from the kernel.

They end with its process; services/userspace-switch.sh adds them again."""


def bridge(cloud: Cloud) -> str:
    return f"br-{cloud.name}-tun"


def link_devices(cloud: Cloud) -> tuple[str, str]:
    """The kernel's end and the switch's."""
    return f"{cloud.name}-tk", f"{cloud.name}-ts"


def table(cloud: Cloud) -> str:
    """nftables table of the translation."""
    return f"{cloud.table}-tunnels"


def ruleset(cloud: Cloud, address: str) -> str:
    """nftables: to other nodes the tunnels begin and end at this machine's address."""
    ports = f"{{ {', '.join(map(str, PORTS.values()))} }}"
    return f"""\
table inet {table(cloud)}
delete table inet {table(cloud)}
table inet {table(cloud)} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {address} udp dport {ports} dnat ip to {SWITCH}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {SWITCH} udp dport {ports} snat ip to {address}
  }}
}}
"""


def flows(address: str) -> list[str]:
    """OpenFlow of the bridge: what has come through the kernel is for `address` again."""
    return [
        f"udp,nw_dst={SWITCH},tp_dst={port},actions=mod_nw_dst:{address},LOCAL"
        for port in PORTS.values()
    ]


def vsctl_words(cloud: Cloud) -> list[str]:
    """What ovs-vsctl makes: the bridge with its end of the link."""
    name, port = bridge(cloud), link_devices(cloud)[1]
    return [
        *("--may-exist", "add-br", name),
        *("--", "set", "bridge", name, "datapath_type=netdev", "fail-mode=standalone"),
        f'other-config:hwaddr="{MAC}"',
        f"external-ids:dozen={cloud.name}",
        *("--", "--may-exist", "add-port", name, port),
    ]


def make_link(cloud: Cloud, step: Step) -> None:
    """The veth pair; before the bridge, which takes one end."""
    kernel, switch = link_devices(cloud)
    if step.run(namespace.ip(cloud, "link", "show", kernel), check=False).returncode:
        add = ("link", "add", kernel, "type", "veth", "peer", "name", switch)
        step.run(namespace.ip(cloud, *add))
    step.run(namespace.ip(cloud, "address", "replace", f"{KERNEL}/30", "dev", kernel))
    for device in (kernel, switch):
        step.run(namespace.ip(cloud, "link", "set", device, "up"))


def connect(cloud: Cloud, step: Step, control: Path, address: str) -> None:
    """Addresses, routes and translation; after the bridge. `address` is this machine's."""
    name, kernel = bridge(cloud), link_devices(cloud)[0]
    step.run(namespace.ip(cloud, "link", "set", name, "up"))
    # noprefixroute, no local route, accept_local: for the kernel it is the link's other end.
    # The second is what OVN from 24.09 on wants packets to be from and for (local_ip).
    for own in (f"{SWITCH}/30", f"{address}/32"):
        step.run(namespace.ip(cloud, "address", "replace", own, "dev", name, "noprefixroute"))
        local = ("local", own.partition("/")[0], "dev", name, "table", "local")
        step.run(namespace.ip(cloud, "route", "delete", *local), check=False)
    with namespace.within(cloud):
        Path("/proc/sys/net/ipv4/conf", kernel, "accept_local").write_text("1")
    neighbour = (SWITCH, "lladdr", MAC, "dev", kernel, "nud", "permanent")
    step.run(namespace.ip(cloud, "neighbour", "replace", *neighbour))
    step.run(namespace.nft(cloud, "-f", "-"), input=ruleset(cloud, address))
    for route in ROUTES:
        add = ["ovs-appctl", f"--target={control}", "ovs/route/add", route, name, KERNEL]

        def added(add: list[str] = add) -> bool:
            # The switch refuses until it has seen the bridge's address.
            return step.run(add, check=False).returncode == 0

        step.until(added, seconds=20, what="The way of the tunnels")
    for flow in flows(address):
        step.run(["ovs-ofctl", "add-flow", f"unix:{control.with_name(name)}.mgmt", flow])


def fault(cloud: Cloud, address: str) -> str:
    """What tunnels lack on their way; empty if nothing. `address` is this machine's."""
    kernel = link_devices(cloud)[0]
    return namespace.device_fault(cloud, kernel, f"{KERNEL}/30") or namespace.device_fault(
        cloud, bridge(cloud), f"{address}/32"
    )


def remove(cloud: Cloud) -> None:
    """What is left of it on the machine; in a namespace of its own it goes with that."""
    if cloud.namespace:
        return
    wayout.drop_tables(table(cloud))
    device = link_devices(cloud)[0]
    if Path("/sys/class/net", device).exists():
        ask("ip", "link", "delete", device, timeout=namespace.SECONDS)
