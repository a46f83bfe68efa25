"""Stop a cloud: its servers, its services, its supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from dozencloud.cloud.installation import INTEGRATION_BRIDGE, Cloud
from dozencloud.facts.run import ask
from dozencloud.host import processes
from dozencloud.host.network import namespace, tunnels
from dozencloud.services import ALL
from dozencloud.supervision import systemd
from dozencloud.supervision.client import Supervisor

Say = Callable[[str], None]

FOUNDATION = frozenset(each.name for each in ALL if each.foundation)
"""Stopped in the second wave, when nobody uses them any more."""
SERVER_SECONDS = 10.0


def stop_all(supervisor: Supervisor, names: set[str], seconds: float = 40) -> None:
    """Ask all of them to stop, then wait."""
    for name in names:
        supervisor.signal_stop(name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        busy = [p for p in supervisor.processes().values() if p.name in names and p.pid]
        if not busy:
            return
        time.sleep(0.05)


def shut_down_servers(cloud: Cloud, say: Say, seconds: float = SERVER_SECONDS) -> int:
    """Press the power button of every server; switch off what still runs after `seconds`.

    Nova is not told: it starts at its next start what it believes to be running. Returns how many
    servers ran.
    """
    try:
        import libvirt
    except ImportError:
        return 0
    libvirt.registerErrorHandler(lambda context, error: None, None)
    try:
        connection = libvirt.open(cloud.libvirt_uri)
    except libvirt.libvirtError:
        return 0
    with suppress(libvirt.libvirtError):
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        if domains:
            say(f"{len(domains)} server(s) shut down")
        for domain in domains:
            with suppress(libvirt.libvirtError):
                domain.shutdown()
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(d.isActive() for d in domains):
            time.sleep(0.1)
        for domain in domains:
            with suppress(libvirt.libvirtError):
                domain.destroy()
        return len(domains)
    return 0


def stop_services(cloud: Cloud) -> None:
    """Stop the services and the supervisor; servers go on."""
    supervisor = Supervisor(cloud)
    names = set(supervisor.processes())
    stop_all(supervisor, names - FOUNDATION)
    stop_all(supervisor, names)
    systemd.stop(cloud)
    supervisor.shutdown()


def stop(cloud: Cloud, say: Say) -> bool:
    """Stop servers and services; false if nothing was running."""
    supervisor = Supervisor(cloud)
    ran = supervisor.alive()
    if ran:
        names = set(supervisor.processes())
        say("services stop")
        for name in names - FOUNDATION:
            supervisor.signal_stop(name)
        # Before the servers, or it would note that they were switched off.
        supervisor.stop("nova-compute")
        shut_down_servers(cloud, say)
        stop_all(supervisor, names - FOUNDATION)
        say("databases and networks stop")
        delete_bridges(cloud, supervisor)
        # ovs-vswitchd before its database, which it would wait for.
        stop_all(supervisor, (names & FOUNDATION) - {"ovs-db", "ovn-nb", "ovn-sb"})
        stop_all(supervisor, names)
        systemd.stop(cloud)
        supervisor.shutdown()
    processes.end(cloud, servers=True, seconds=2)
    processes.end(cloud)
    return ran


def delete_bridges(cloud: Cloud, supervisor: Supervisor) -> None:
    """The devices of a bridge outlive the daemon otherwise, with both datapaths."""
    # It would make the integration bridge again.
    supervisor.stop("ovn-controller")
    for bridge in (INTEGRATION_BRIDGE, cloud.provider_bridge, tunnels.bridge(cloud)):
        socket = cloud.run / "openvswitch" / "db.sock"
        words = ("ovs-vsctl", f"--db=unix:{socket}", "--timeout=5", "--if-exists", "del-br")
        ask(*words, bridge, timeout=namespace.SECONDS)
