"""Networks of the machine: what its kernel can, who listens, what is let through and reached."""

from __future__ import annotations

from collections.abc import Iterator

from dozencloud.checks.judges.words import named
from dozencloud.checks.needs import Needs
from dozencloud.facts import Datapath, Facts, Wall
from dozencloud.facts.reach import Outcome
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.base import Distribution
from dozencloud.verdicts import Level, Verdict


def network(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    network = facts.network
    if needs.kernel_switch and network.datapath is not Datapath.SYSTEM:
        yield Verdict(
            "datapath",
            Level.BAD,
            "network.datapath is system, and the kernel has not both Open vSwitch and Geneve or "
            "VXLAN.",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif needs.geneve and network.datapath is Datapath.SYSTEM and not network.geneve:
        yield Verdict(
            "datapath",
            Level.BAD,
            "network.tunnels is geneve, and the kernel has VXLAN only.",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif network.datapath is Datapath.SYSTEM:
        words = "Geneve" if network.geneve else "VXLAN, but not Geneve"
        yield Verdict("datapath", Level.OK, f"The kernel has Open vSwitch and {words}.")
    else:
        yield Verdict(
            "datapath",
            Level.NOTE,
            "The kernel has not both Open vSwitch and Geneve or VXLAN, so packets are moved in user"
            " space (slower).",
        )
    for name, what, works, reason in (
        ("tun", "TAP devices", network.tun, network.tun_reason),
        ("namespaces", "Network namespaces", network.namespaces, network.namespaces_reason),
        ("nftables", "nftables", network.nftables, network.nftables_reason),
    ):
        if works:
            yield Verdict(name, Level.OK, f"{what} can be used.")
        elif facts.system.root:
            yield Verdict(
                name,
                Level.BAD,
                f"{what} cannot be used here ({reason}).",
                "Use the distribution's own kernel; in a container, allow it there.",
            )


def forwarding(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Whether other firewalls of this machine let pass what the cloud's devices carry."""
    if not (facts.walls and needs.passing):
        return
    closed = [(w, device) for w in facts.walls for device in needs.passing if not w.lets(device)]
    for wall, device in closed:
        yield Verdict(
            "forwarding",
            Level.WARN,
            f"A firewall of this machine ({wall.program}, chain {wall.chain}) drops what passes "
            f"through {device}: servers do not get out that way, and nobody else in.",
            f"Run: {_let_through(wall, device)}",
        )
    if not closed:
        fact = f"The firewall of this machine lets pass what goes through {named(needs.passing)}."
        yield Verdict("forwarding", Level.OK, fact)


def entrance(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Whether firewalld lets others in to what the cloud offers them."""
    if facts.entrance is None:
        return
    own = {*needs.own, *needs.passing}
    closed = [port for port in needs.public if not facts.entrance.lets(port, own)]
    for port in closed:
        yield Verdict(
            "firewalld",
            Level.WARN,
            f"firewalld rejects what other machines send to port {port}: they do not reach the"
            " cloud.",
            f"Run: sudo firewall-cmd --permanent --add-port={port}/tcp; sudo firewall-cmd --reload "
            "(the ports of nodes: docs/nodes.md)",
        )


FIREWALLD_POLICY = "dozencloud"


def _let_through(wall: Wall, device: str) -> str:
    """Commands that let pass what comes from and goes to the device."""
    if wall.program == "firewall-cmd":
        rule = "sudo firewall-cmd --permanent"
        policy = f"{rule} --policy={FIREWALLD_POLICY}"
        return "; ".join(
            [
                f"{rule} --zone=trusted --add-interface={device}",
                f"{rule} --new-policy={FIREWALLD_POLICY}",
                f"{policy} --add-ingress-zone=ANY",
                f"{policy} --add-egress-zone=trusted",
                f"{policy} --set-target=ACCEPT",
                "sudo firewall-cmd --reload",
            ]
        )
    if wall.program == "nft":
        rule = f"sudo nft insert rule {wall.chain}"
        return f'{rule} iifname "{device}" accept; {rule} oifname "{device}" accept'
    rule = f"sudo {wall.program} -I {wall.chain}"
    return f"{rule} -i {device} -j ACCEPT; {rule} -o {device} -j ACCEPT"


def outside(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    if facts.reach is None:
        return
    asked = [
        (name, what, outcome)
        for name, what, url in (
            ("mirror", "package mirror", needs.mirror),
            ("index", "Python package index", needs.index),
        )
        if url and (outcome := facts.reach.of(url))
    ]
    if not facts.reach.default_route and not all(outcome.reached for *_, outcome in asked):
        yield Verdict(
            "network",
            Level.NOTE if needs.installed else Level.BAD,
            "This machine has no default route, so it reaches no server outside.",
            "Connect it to a network; to see what it has: ip route",
        )
        return
    for name, what, outcome in asked:
        through = f" through the proxy {outcome.proxy}" if outcome.proxy else ""
        if outcome.reached:
            yield Verdict(name, Level.OK, f"The {what} answers{through} ({outcome.url}).")
        else:
            yield Verdict(
                name,
                Level.NOTE if needs.installed else Level.BAD,
                f"The {what} {outcome.url} cannot be reached{through}: {outcome.reason}.",
                _mend_reach(outcome, registry.find(facts.system.distribution)),
            )


def _mend_reach(outcome: Outcome, system: Distribution) -> str:
    if "resolve" in outcome.reason:
        return "Set a name server that works in /etc/resolv.conf."
    if "certificate" in outcome.reason:
        return "Check the clock (date -u), and whether a proxy with its own CA is in between."
    if outcome.proxy:
        return f"Check the proxy settings (http_proxy, https_proxy, {system.manager.proxy})."
    return f"Try: curl -I {outcome.url}; behind a proxy, set https_proxy and http_proxy."


def ports(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    free = []
    for port in needs.ports:
        owner = facts.port_owner(port.port, port.address)
        if owner is None or owner.pid in port.ours:
            free.append(port.port)
            continue
        if owner.pid is None and not facts.system.root:
            fact = f"Port {port.port} is taken; without root it cannot be seen by whom."
            yield Verdict(f"port {port.name}", Level.NOTE, fact)
            continue
        stop = (
            f"Stop it, or set {port.setting} in {needs.settings}." if port.setting else "Stop it."
        )
        yield Verdict(
            f"port {port.name}", Level.BAD, f"Port {port.port} is taken by {owner}.", stop
        )
    if free:
        numbers = ", ".join(str(number) for number in sorted(set(free)))
        what = f"Port {numbers} is" if len(set(free)) == 1 else f"Ports {numbers} are"
        yield Verdict("ports", Level.OK, f"{what} free or held by this cloud.")
