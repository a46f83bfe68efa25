"""Whether the address that users reach the gateway by leads to it, also from this machine.

`up` itself registers everything over that address, and only after a minute of work. An address of
this machine is good. One of a router in front of it is, too, if the router passes it on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.facts.reach import resolve
from dozencloud.host.network import namespace
from dozencloud.verdicts import Level, Verdict

SECONDS = 3.0
"""For a connection that goes out to a router and comes back."""


def judge(cloud: Cloud) -> list[Verdict]:
    """What `gateway.address` leads to; no verdict where that cannot be found out."""
    name, port = cloud.settings.gateway.address, cloud.settings.gateway.port
    if not name:
        return []
    own = namespace.own_address(cloud)
    addresses = resolve(name)
    if not addresses:
        return [
            Verdict(
                "gateway",
                Level.BAD,
                f"gateway.address is {name}, and this machine finds no IPv4 address of that name.",
                f"Enter it in DNS, or here alone: echo '{own} {name}' | sudo tee -a /etc/hosts; or"
                f" set another one in {cloud.file}.",
            )
        ]
    arrivals = {each: _is_here(cloud, each) or _comes_back(cloud, each) for each in addresses}
    for address, arrives in arrivals.items():
        if arrives is False:
            leads = "" if address == name else f", which leads to {address}"
            fact = f"gateway.address is {name}{leads}, and nothing sent there comes to this cloud."
            mend = (
                f"Set it in {cloud.file} to this cloud's own address, {own}, or to a name of it. If"
                f" it is a router's, that must pass port {port} on to {own}, also for this machine."
            )
            return [Verdict("gateway", Level.BAD, fact, mend)]
    if None in arrivals.values():
        return []
    return [Verdict("gateway", Level.OK, f"The address of the gateway, {name}, leads to it.")]


def _is_here(cloud: Cloud, address: str) -> bool:
    """Whether it is an address of the gateway's machine, or will be once the cloud is up."""
    if cloud.root and ipaddress.IPv4Address(address).is_loopback:
        return False  # users' own, or this machine's, and the gateway is in a namespace
    coming = (cloud.provider_address, cloud.link[1] if cloud.root else None)
    return address in coming or namespace.is_here(cloud, address)


def _comes_back(cloud: Cloud, address: str) -> bool | None:
    """Whether a connection to it arrives at the gateway, or would; None: nobody can tell."""
    if os.geteuid():
        return None
    if not namespace.namespace_exists(cloud):
        # After a reboot it may be so again; before the first `up` nobody leads into it.
        return None if State.of(cloud).get("catalogue") else False
    where = (address, cloud.settings.gateway.port)
    try:
        with namespace.within(cloud):
            listener = socket.create_server(("", where[1]))
    except OSError:  # taken, by the gateway or by who is in its way
        return _shows_certificate(cloud, where)
    with listener:
        return _arrives(listener, where)


def _shows_certificate(cloud: Cloud, where: tuple[str, int]) -> bool | None:
    ours = cloud.etc / "tls" / "gateway.crt"
    if not ours.exists():
        return None
    try:
        shown = ssl.get_server_certificate(where, timeout=SECONDS)
    except OSError:
        return False
    return shown.strip() in ours.read_text()


def _arrives(listener: socket.socket, where: tuple[str, int]) -> bool:
    word = os.urandom(16)
    listener.settimeout(SECONDS)
    try:
        with socket.create_connection(where, timeout=SECONDS) as there:
            there.sendall(word)
            come, _ = listener.accept()
            with come:
                come.settimeout(SECONDS)
                return come.recv(len(word)) == word
    except OSError:
        return False
