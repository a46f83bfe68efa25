"""Move all that a network card has onto a bridge of the kernel above it, and back.

Connections over the card go on: their address is on this machine at any moment, and what is lost
in the milliseconds between is sent again.

    python -m dozencloud.host.network.cardmove take CARD BRIDGE RECORD
    python -m dozencloud.host.network.cardmove give BRIDGE RECORD

A program, because it has to reach its end when whoever called it is gone, with the terminal. What
the card had is written down in RECORD before it is touched. If then nobody answers any more who
answered before, all of it is put back.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dozencloud.facts.run import ask
from dozencloud.locks import open_lock
from dozencloud.private import write_private

SECONDS = 60.0
"""Within which ip(8) ends, also on a busy board."""
FIRST, PATIENCE = 2.0, 10.0
"""s that neighbours have to answer before the move, and again after it."""
MOST_ASKED = 8
"""Neighbours who are asked, besides routers."""
ETH_ARP, ARP_REQUEST, ARP_REPLY = 0x0806, 1, 2  # RFC 826
ARP = struct.Struct("!HHBBH6s4s6s4s")
IPV6 = Path("/proc/sys/net/ipv6/conf")
ALIKE = ("accept_ra", "autoconf", "use_tempaddr", "addr_gen_mode")
"""IPv6 settings of the card that the bridge gets."""
AUTOMATIC = {"local", "broadcast", "multicast", "anycast"}
"""Types of routes that come and go with an address."""
MARKS = {"linkdown", "dead", "offload", "trap", "rt_trap", "pervasive"}
"""What ip(8) shows of a route and does not take."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Address:
    """An address as ip(8) takes it. label: IPv4 only, and only for the card."""

    words: Words
    ipv6: bool
    label: str
    passing: bool
    """It ends, unless somebody renews it."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Address:
        """From `ip -json -details address`."""
        own, ipv6 = f"{info['local']}", info["family"] == "inet6"
        peer = ("peer", info["address"]) if "address" in info else ()
        first = (own, *peer) if peer else (own,)
        words = [*first[:-1], f"{first[-1]}/{info['prefixlen']}", "scope", str(info["scope"])]
        for key in ("broadcast", "metric"):
            words += [key, str(info[key])] if key in info else []
        words += ["noprefixroute"] if info.get("noprefixroute") else []
        passing = bool(info.get("dynamic"))
        if passing:
            words += ["valid_lft", str(info["valid_life_time"])]
            words += ["preferred_lft", str(info["preferred_life_time"])]
        words += ["nodad"] if ipv6 else []
        return cls(tuple(words), ipv6, info.get("label", ""), passing)


@dataclass(frozen=True)
class Had:
    """What `card` has. `off`: whether IPv6 is off there; None in a kernel without."""

    card: str
    mac: str
    mtu: int
    off: bool | None
    addresses: tuple[Address, ...]
    routes: tuple[Words, ...]
    routes6: tuple[Words, ...]

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Had:
        kept = json.loads(path.read_text())
        kept["addresses"] = tuple(
            Address(**{**each, "words": tuple(each["words"])}) for each in kept["addresses"]
        )
        for name in ("routes", "routes6"):
            kept[name] = tuple(map(tuple, kept[name]))
        return cls(**kept)

    @property
    def fixed(self) -> tuple[set[Words], set[Words]]:
        """Addresses and routes that are the same as long as nobody changes them."""
        addresses = {address.words for address in self.addresses if not address.passing}
        return addresses, {*self.routes, *self.fixed6}

    @property
    def fixed6(self) -> list[Words]:
        """Routes of IPv6 that no router has told of."""
        return [words for words in self.routes6 if "expires" not in words]


def route_words(text: str, *, prefixes: bool) -> tuple[Words, ...]:
    """Routes of `ip -oneline route show table all dev X`, as ip(8) takes them without the device.

    prefixes: also those that the kernel makes by itself with an address.
    """
    found = []
    for line in text.splitlines():
        words = [word for word in line.replace("\\", " ").split() if word not in MARKS]
        if words[0] in AUTOMATIC or (not prefixes and " proto kernel " in f"{line} "):
            continue
        if "expires" in words:
            place = words.index("expires") + 1
            words[place] = words[place].removesuffix("sec")
        found.append(tuple(words))
    return tuple(found)


def ip(*words: str) -> str:
    """ip(8), where this process is."""
    done = ask("ip", *words, timeout=SECONDS)
    if not done.ok:
        raise OSError(done.error.strip() or f"ip {' '.join(words)} failed")
    return done.output


def batch(lines: Iterable[str], *, force: bool = False) -> None:
    """Many commands of ip(8) in one process, milliseconds from the first to the last.

    force: go on where one fails, since it may have been done before.
    """
    text = "".join(f"{line}\n" for line in lines)
    words = ("-force", "-batch", "-") if force else ("-batch", "-")
    done = ask("ip", *words, timeout=SECONDS, input=text)
    if not (done.ok or force):
        raise OSError(done.error.strip())


def exists(device: str) -> bool:
    # Not /sys, which shows the devices of whoever mounted it.
    return any(name == device for _, name in socket.if_nameindex())


def read(card: str) -> Had:
    """What the card has now."""
    (found,) = json.loads(ip("-json", "-details", "address", "show", "dev", card))
    infos = [
        info
        for info in found["addr_info"]
        if info.get("local") and not info.get("temporary") and _moves(info)
    ]
    own = any(info.get("noprefixroute") for info in infos)

    def routes(family: str) -> tuple[Words, ...]:
        shown = ip(family, "-oneline", "route", "show", "table", "all", "dev", card)
        return route_words(shown, prefixes=own and family == "-4")

    switch = IPV6 / card / "disable_ipv6"
    return Had(
        card=card,
        mac=found["address"],
        mtu=found["mtu"],
        off=switch.read_text().strip() == "1" if switch.exists() else None,
        addresses=tuple(map(Address.of, infos)),
        routes=routes("-4"),
        routes6=routes("-6") if switch.exists() else (),
    )


def _moves(info: Mapping[str, Any]) -> bool:
    """Each device has a link-local address of IPv6 of its own."""
    return not (info["family"] == "inet6" and info["scope"] == "link")


def making(had: Had, bridge: str) -> list[str]:
    """The bridge: no port has to wait, and it floods what it does not know."""
    kind = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    return [f"link add {bridge} address {had.mac} mtu {had.mtu} {kind}"]


def taking(had: Had, bridge: str) -> list[str]:
    """From the card to the bridge. Nothing is away from the one before it is at the other."""
    card = had.card
    ipv4 = [address for address in had.addresses if not address.ipv6]
    return [
        f"link set {bridge} up",
        *(f"address replace {' '.join(a.words)} dev {bridge}" for a in had.addresses),
        f"link set {card} master {bridge}",
        *(f"route append {' '.join(words)} dev {bridge}" for words in had.routes),
        *(f"route delete {' '.join(words)} dev {card}" for words in had.routes),
        # The second of a network would go with the first.
        *(f"address delete {_own(a)} dev {card}" for a in reversed(ipv4)),
    ]


def giving(had: Had) -> list[str]:
    """From the bridge to the card; what is IPv4."""
    card = had.card
    ipv4 = [address for address in had.addresses if not address.ipv6]

    def label(address: Address) -> str:
        return f" label {address.label}" if address.label else ""

    return [
        *(f"address replace {' '.join(a.words)}{label(a)} dev {card}" for a in ipv4),
        f"link set {card} nomaster",
        f"link set {card} mtu {had.mtu}",
        f"link set {card} up",
        *(f"route append {' '.join(words)} dev {card}" for words in had.routes),
    ]


def _own(address: Address) -> str:
    """Address and length, without what else is said of it."""
    return " ".join(address.words[: 3 if address.words[1:2] == ("peer",) else 1])


def _routes6(routes: Sequence[Words], device: str) -> list[str]:
    return [f"route replace {' '.join(words)} dev {device}" for words in routes]


def routers(had: Had) -> set[str]:
    """IPv4 addresses of the next machines on the way elsewhere."""
    return {words[words.index("via") + 1] for words in had.routes if "via" in words[:-1]}


def neighbours(card: str) -> set[str]:
    """IPv4 addresses of those whom this machine has spoken to over the card."""
    rows = json.loads(ip("-4", "-json", "neighbour", "show", "dev", card) or "[]")
    return {row["dst"] for row in rows[:MOST_ASKED] if row.get("lladdr")}


def answering(
    device: str,
    own: str,
    addresses: Iterable[str],
    enough: Callable[[set[str]], bool],
    seconds: float,
) -> set[str]:
    """Who of `addresses` answers to ARP at the device, until it is `enough` or time is over."""
    wanted, found = set(addresses), set[str]()
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_ARP)) as wire:
        wire.bind((device, ETH_ARP))
        wire.settimeout(0.3)
        mac = wire.getsockname()[4]
        everybody = (device, ETH_ARP, 0, 0, b"\xff" * 6)
        while not enough(found) and time.monotonic() < deadline:
            for address in wanted - found:
                asked = (mac, socket.inet_aton(own), bytes(6), socket.inet_aton(address))
                with suppress(OSError):  # no carrier yet
                    wire.sendto(ARP.pack(1, 0x0800, 6, 4, ARP_REQUEST, *asked), everybody)
            with suppress(TimeoutError):
                while not enough(found):
                    said = wire.recv(128)
                    if len(said) >= ARP.size:
                        (*_, operation, _, sender, _, _) = ARP.unpack(said[: ARP.size])
                        name = socket.inet_ntoa(sender)
                        if operation == ARP_REPLY and name in wanted:
                            found.add(name)
    return found


def take(card: str, bridge: str, record: Path) -> None:
    """Put the bridge above the card; OSError, with all as it was, if that cannot be."""
    if exists(bridge):
        # Somebody was killed in the middle of it.
        give(bridge, record)
    if exists(bridge):
        raise OSError(f"there is a device {bridge} already")
    had = read(card)
    own = next((a.words[0].partition("/")[0] for a in had.addresses if not a.ipv6), "")
    asked = routers(had) | neighbours(card) if own else set()
    before = answering(card, own, asked, lambda found: found >= asked, FIRST) if asked else set()
    needed = (routers(had) & before) or before
    had.save(record)
    try:
        batch(making(had, bridge))
        _switch6(had, bridge)
        batch(taking(had, bridge))
        if had.off is False:
            (IPV6 / card / "disable_ipv6").write_text("1")
            batch(_routes6(had.routes6, bridge))
    except OSError as error:
        give(bridge, record)
        raise OSError(f"{card} cannot become a port of {bridge}: {error}") from error
    # Routers must all be there; of other neighbours one is enough, the rest may have gone to sleep.
    every = bool(routers(had) & before)

    def enough(found: set[str]) -> bool:
        return found >= needed if every else bool(found)

    if needed and not enough(answering(bridge, own, needed, enough, PATIENCE)):
        give(bridge, record)
        raise OSError(
            f"{card} was put back as it was: while it was a port of {bridge}, "
            f"{', '.join(sorted(needed))} did not answer any more within {PATIENCE:g} s"
        )


def _switch6(had: Had, bridge: str) -> None:
    """The bridge takes part in IPv6 as the card did."""
    if had.off is None:
        return
    for name in ALIKE:
        with suppress(OSError):  # a mode of addresses that only the card can have
            (IPV6 / bridge / name).write_text((IPV6 / had.card / name).read_text())
    (IPV6 / bridge / "disable_ipv6").write_text("1" if had.off else "0")


def give(bridge: str, record: Path) -> None:
    """Give the card back what it had; nothing to do without the bridge. OSError if it is gone."""
    if not exists(bridge) or not record.exists():
        record.unlink(missing_ok=True)
        return
    had = Had.load(record)
    card = had.card
    if not exists(card):
        ip("link", "delete", bridge)
        record.unlink()
        raise OSError(f"the card {card} is gone; its addresses went with {bridge}")
    # Those that routers hand out, as they are now.
    now = read(bridge)
    batch(giving(had), force=True)
    if had.off is False:
        (IPV6 / card / "disable_ipv6").write_text("0")
        passing = [a for a in now.addresses if a.ipv6 and a.passing]
        kept = [a for a in had.addresses if a.ipv6 and not a.passing]
        batch(
            [f"address replace {' '.join(a.words)} dev {card}" for a in (*kept, *passing)]
            + _routes6([*had.fixed6, *now.routes6], card),
            force=True,
        )
    # Last: as long as it is there, all of this is done again.
    ip("link", "delete", bridge)
    missing = [what - there for what, there in zip(had.fixed, read(card).fixed, strict=True)]
    if any(missing):
        lost = ", ".join(" ".join(words) for each in missing for words in sorted(each))
        raise OSError(f"{card} did not get back all that it had: {lost}")
    record.unlink()


def main(arguments: Sequence[str]) -> int:
    """Do it in a child that nobody's end ends; say in one line why it failed."""
    order, *words, record = arguments
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        with open_lock(Path(record).with_suffix(".lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if order == "take":
                take(words[0], words[1], Path(record))
            else:
                give(words[0], Path(record))
    except (OSError, ValueError, KeyError) as error:
        with suppress(OSError):  # nobody listens any more
            print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
