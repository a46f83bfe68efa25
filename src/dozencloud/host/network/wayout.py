"""The way out of the cloud: forwarding, source NAT, and who may not reach consoles."""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud.installation import CONSOLE_USER, LINKS, Cloud
from dozencloud.cloud.settings import SCREEN_PORTS, SERIAL_PORTS
from dozencloud.facts.run import ask
from dozencloud.host.network.namespace import SECONDS, nft
from dozencloud.tasks.graph import Step

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDED = Path("/run/dozencloud-forwarding")
"""There while forwarding is on only because a cloud turned it on; gone at a restart, as that is."""


def guard(cloud: Cloud) -> str:
    """nftables: the consoles of servers, which ask for no password, are the console proxy's alone.

    So is the way to those on nodes, where the gate (services/gate.py) has the same user.

    Other users of this machine, and a guest that broke out of its QEMU, cannot connect to them.
    """
    ports = ", ".join(
        [
            *(f"{first}-{last}" for first, last in (SERIAL_PORTS, SCREEN_PORTS)),
            str(cloud.settings.internal.node_consoles),
        ]
    )
    return f"""\
table inet {cloud.table}-consoles
delete table inet {cloud.table}-consoles
table inet {cloud.table}-consoles {{
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "lo" tcp dport {{ {ports} }} \
      meta skuid != {{ root, {CONSOLE_USER} }} reject with tcp reset
  }}
}}
"""


def ruleset(cloud: Cloud) -> str:
    """nftables: servers with a floating IP reach what the machine reaches, by its address."""
    near = cloud.link_devices[0] if cloud.namespace else cloud.provider_bridge
    # In the network of a card of this machine, floating IPs need none of its addresses.
    sources = [str(cloud.provider)] if cloud.provider_address else []
    if cloud.namespace:
        sources.append(f"{cloud.link[0]}/30")
    masked = f"""\
    ip saddr {{ {", ".join(sources)} }} ip daddr != {LINKS} \
      oifname != {{ "{near}", "lo" }} masquerade
"""
    return f"""\
table inet {cloud.table}
delete table inet {cloud.table}
table inet {cloud.table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{masked if sources else ""}\
  }}
}}
"""


def open_way_out(cloud: Cloud, step: Step) -> None:
    """Forwarding and source NAT on the machine. That forwarding was off is remembered."""
    if FORWARD.read_text().strip() == "0":
        FORWARDED.touch()
        FORWARD.write_text("1")
    step.run(["nft", "-f", "-"], input=ruleset(cloud))
    step.run(nft(cloud, "-f", "-"), input=guard(cloud))


def way_out_is_open(cloud: Cloud) -> bool:
    if FORWARD.read_text().strip() == "0":
        return False
    tables = (
        (["nft", "list", "table", "inet", cloud.table], cloud.table),
        (
            nft(cloud, "list", "table", "inet", f"{cloud.table}-consoles"),
            str(cloud.settings.internal.node_consoles),
        ),
    )
    return all(words in ask(*show, timeout=SECONDS).output for show, words in tables)


def drop_tables(*names: str) -> None:
    """Remove tables of nftables from the machine, as far as they are there."""
    drop = "".join(f"table inet {name}\ndelete table inet {name}\n" for name in names)
    ask("nft", "-f", "-", timeout=SECONDS, input=drop)  # without nft there is none


def close_way_out(cloud: Cloud, *, last: bool) -> None:
    """Undo `open_way_out`. last: no other cloud of this machine needs forwarding any more."""
    drop_tables(cloud.table, f"{cloud.table}-consoles")
    if last and FORWARDED.exists():
        FORWARD.write_text("0")
        FORWARDED.unlink()
