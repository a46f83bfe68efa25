"""Remove a cloud, and the packages that were installed for it, without a trace."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from xmlrpc.client import Fault

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import CLOUD_FILE
from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts.run import ask
from dozencloud.host import machine, packages, processes, users
from dozencloud.host.network import namespace, tunnels, uplink, wayout
from dozencloud.lifecycle.stop import Say, delete_bridges, shut_down_servers, stop_all
from dozencloud.services.libvirt import folders as libvirt_folders
from dozencloud.supervision import systemd
from dozencloud.supervision.client import Supervisor
from dozencloud.supervision.service import GROUP


def destroy(cloud: Cloud, say: Say = lambda text: None) -> list[str]:
    """Remove every trace of the cloud, whatever is left of it; returns what was removed."""
    if installed := State.of(cloud).get(packages.INSTALLED):
        machine.remember(installed)
    devices = namespace.switch_devices(cloud)
    _end_services(cloud, say)
    _end_processes(cloud, say)
    _remove_networks(cloud, devices, say)
    removed = _remove_files(cloud, say)
    _leave_machine(cloud)
    return removed


def _end_services(cloud: Cloud, say: Say) -> None:
    supervisor = Supervisor(cloud)
    with suppress(Problem, Fault):
        supervisor.stop("nova-compute")
        shut_down_servers(cloud, say, seconds=0)
        delete_bridges(cloud, supervisor)
        say("services stop")
        stop_all(supervisor, set(supervisor.processes()), seconds=20)
    systemd.remove(cloud)
    supervisor.shutdown(seconds=20)


def _end_processes(cloud: Cloud, say: Say) -> None:
    say("processes end")
    processes.end(cloud, servers=True, seconds=2)
    processes.end(cloud, seconds=5)


def _remove_networks(cloud: Cloud, devices: list[str], say: Say) -> None:
    """devices: of the switch, as its database named them."""
    say("networks go")
    for name in metadata_namespaces(cloud):
        ask("ip", "netns", "delete", name, timeout=namespace.SECONDS)
    if left := uplink.remove(cloud):
        raise Problem(
            f"A network card could not be given back: {left}.",
            f"What it had is in {uplink.record(cloud)}. Set that with ip(8), or restart the "
            "machine; then run the same command again.",
        )
    wayout.close_way_out(cloud, last=not other_clouds(cloud))
    tunnels.remove(cloud)
    namespace.remove_devices(cloud, devices)


def _remove_files(cloud: Cloud, say: Say) -> list[str]:
    """The folders; returns those that were there."""
    say("files go")
    removed = []
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
    return removed


def _leave_machine(cloud: Cloud) -> None:
    """What clouds of this machine share goes with the last one."""
    if not (other_clouds(cloud) or machine.others(cloud)):
        users.remove("dozen-", GROUP)
    machine.leave(cloud)
    packages.remove_policy()


def _remove(folder: Path) -> None:
    """Remove it and all that is in it; the settings go last."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == CLOUD_FILE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.rmdir()


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
