"""Stop, start and remove a cloud that exists."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xmlrpc.client import Fault

from dozencloud.cloud.installation import INTEGRATION_BRIDGE, Cloud
from dozencloud.cloud.settings import CLOUD_FILE
from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts.run import ask
from dozencloud.host import machine, packages, processes, users
from dozencloud.host.network import namespace, tunnels, uplink
from dozencloud.services.libvirt import folders as libvirt_folders
from dozencloud.supervision import systemd
from dozencloud.supervision.client import Supervisor
from dozencloud.supervision.service import GROUP

Say = Callable[[str], None]

# Stopped in the second wave, when nobody uses them any more.
FOUNDATION = (
    *("mariadb", "memcached", "rabbitmq", "epmd", "libvirtd", "virtlogd"),
    *("ovn-controller", "ovn-northd", "ovn-nb", "ovn-sb", "ovs-switch", "ovs-db"),
)
SERVER_SECONDS = 10.0


def _stop_all(supervisor: Supervisor, names: set[str], seconds: float = 40) -> None:
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
    _stop_all(supervisor, names - {*FOUNDATION})
    _stop_all(supervisor, names)
    systemd.stop(cloud)
    supervisor.shutdown()


def stop(cloud: Cloud, say: Say) -> bool:
    """Stop servers and services; false if nothing was running."""
    supervisor = Supervisor(cloud)
    ran = supervisor.alive()
    if ran:
        names = set(supervisor.processes())
        say("services stop")
        for name in names - {*FOUNDATION}:
            supervisor.signal_stop(name)
        # Before the servers, or it would note that they were switched off.
        supervisor.stop("nova-compute")
        shut_down_servers(cloud, say)
        _stop_all(supervisor, names - {*FOUNDATION})
        say("databases and networks stop")
        _delete_bridges(cloud, supervisor)
        # ovs-vswitchd before its database, which it would wait for.
        _stop_all(supervisor, (names & {*FOUNDATION}) - {"ovs-db", "ovn-nb", "ovn-sb"})
        _stop_all(supervisor, names)
        systemd.stop(cloud)
        supervisor.shutdown()
    processes.end(cloud, servers=True, seconds=2)
    processes.end(cloud)
    return ran


def destroy(cloud: Cloud, say: Say = lambda text: None) -> list[str]:
    """Remove every trace of the cloud, whatever is left of it; returns what was removed."""
    removed: list[str] = []
    state = State.of(cloud)
    if installed := state.get(packages.INSTALLED):
        machine.remember(installed)
    supervisor = Supervisor(cloud)
    devices = namespace.switch_devices(cloud)
    with suppress(Problem, Fault):
        supervisor.stop("nova-compute")
        shut_down_servers(cloud, say, seconds=0)
        _delete_bridges(cloud, supervisor)
        say("services stop")
        names = set(supervisor.processes())
        _stop_all(supervisor, names, seconds=20)
    systemd.remove(cloud)
    supervisor.shutdown(seconds=20)
    say("processes end")
    processes.end(cloud, servers=True, seconds=2)
    processes.end(cloud, seconds=5)
    say("networks go")
    for name in metadata_namespaces(cloud):
        ask("ip", "netns", "delete", name, timeout=namespace.SECONDS)
    if left := uplink.remove(cloud):
        raise Problem(
            f"A network card could not be given back: {left}.",
            f"What it had is in {uplink.record(cloud)}. Set that with ip(8), or restart the "
            "machine; then run the same command again.",
        )
    namespace.close_way_out(cloud, last=not other_clouds(cloud))
    tunnels.remove(cloud)
    namespace.remove_devices(cloud, devices)
    say("files go")
    # The settings last: while they are there, a removal that was cut off is known as a cloud.
    for folder in (cloud.lib, cloud.log, cloud.run, cloud.etc):
        if folder.exists():
            _remove(folder)
            removed.append(str(folder))
    if cloud.root and cloud.root.is_dir() and not any(cloud.root.iterdir()):
        with suppress(OSError):  # a mount point stays
            cloud.root.rmdir()
    for theirs in libvirt_folders(cloud).values():
        # Mount points that libvirt's packages do not bring; gone only where empty and unused.
        with suppress(OSError):
            if not processes.mounted(theirs):
                Path(theirs).rmdir()
    if not (other_clouds(cloud) or machine.others(cloud)):
        users.remove("dozen-", GROUP)
    machine.leave(cloud)
    packages.remove_policy()
    return removed


def _remove(folder: Path) -> None:
    """Remove it and all that is in it; the settings go last."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == CLOUD_FILE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.rmdir()


def _delete_bridges(cloud: Cloud, supervisor: Supervisor) -> None:
    """The devices of a bridge outlive the daemon otherwise, with both datapaths."""
    # It would make the integration bridge again.
    supervisor.stop("ovn-controller")
    for bridge in (INTEGRATION_BRIDGE, cloud.provider_bridge, tunnels.bridge(cloud)):
        socket = cloud.run / "openvswitch" / "db.sock"
        words = ("ovs-vsctl", f"--db=unix:{socket}", "--timeout=5", "--if-exists", "del-br")
        ask(*words, bridge, timeout=namespace.SECONDS)


def metadata_namespaces(cloud: Cloud) -> list[str]:
    """Namespaces that Neutron's agent made for this cloud's networks (in the machine's own)."""
    if cloud.namespace:
        return []
    proxies = cloud.lib / "ovn-agent" / "ovn-metadata-proxy"
    return [f"ovnmeta-{path.stem}" for path in proxies.glob("*.conf")]


def other_clouds(cloud: Cloud) -> bool:
    """Whether another cloud on this machine still has a supervisor."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        markers = {e for e in entries if e.startswith(b"DOZEN_CLOUD=")}
        if markers - {cloud.marker.encode()}:
            return True
    return False
