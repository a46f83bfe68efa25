"""The first server of a new cloud, until somebody can log in to it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from dozencloud.access.ssh import KeyFiles, ssh
from dozencloud.cloud.installation import Cloud
from dozencloud.content import networks
from dozencloud.content.key import KEYPAIR
from dozencloud.errors import Problem
from dozencloud.private import write_private
from dozencloud.tasks.graph import Step

NAME = "first"
SSH_SECONDS = 20
"""After which a login is tried anew."""


def create(sdk: Any, cloud: Cloud, image: str, step: Step) -> None:
    """Create `first` from the image with that ID, and give it a floating IP."""
    compute, network = sdk.compute, sdk.network
    server = compute.find_server(NAME)
    if server and compute.get_server(server.id).status == "ERROR":
        step.log.write("replacing a server that failed\n")
        compute.delete_server(server.id)
        compute.wait_for_delete(server, interval=0.3, wait=60)
        server = None
    if not server:
        server = compute.create_server(
            name=NAME,
            image_id=image,
            flavor_id=compute.find_flavor("m1.nano").id,
            networks=[{"uuid": networks.own(sdk, network.networks, networks.PRIVATE).id}],
            key_name=KEYPAIR,
        )

    def active() -> bool | str:
        now = compute.get_server(server.id)
        if now.status == "ERROR":
            why = (now.fault or {}).get("message", "no reason given")
            raise Problem(
                f"Nova could not start the server: {why}.",
                f"Details: {cloud.command('logs', 'nova-compute')}",
            )
        return now.status == "ACTIVE" or f"the server to be active ({now.task_state})"

    step.until(active, seconds=180, every=0.2, what="The server")
    _floating_ip(sdk, server.id)


def _floating_ip(sdk: Any, server: str) -> None:
    network = sdk.network
    port = next(iter(network.ports(device_id=server)))
    if next(iter(network.ips(port_id=port.id)), None) is None:
        network.create_ip(floating_network_id=networks.external(sdk).id, port_id=port.id)


def address(sdk: Any) -> str:
    """Floating IP of `first`; empty if it has none."""
    server = sdk.compute.find_server(NAME)
    if not server:
        return ""
    for port in sdk.network.ports(device_id=server.id):
        for ip in sdk.network.ips(port_id=port.id):
            return str(ip.floating_ip_address)
    return ""


def await_prompt(sdk: Any, step: Step) -> None:
    """Until the server's serial console shows the login prompt."""
    server = sdk.compute.find_server(NAME)

    def prompt() -> bool | str:
        output = sdk.compute.get_server_console_output(server.id)["output"] or ""
        lines = output.strip().splitlines()
        return any(line.rstrip().endswith("login:") for line in lines[-5:]) or (
            f"console: {lines[-1][:60]}" if lines else "the first byte on the console"
        )

    step.until(prompt, seconds=240, every=0.3, what="The login prompt")


def log_in(sdk: Any, cloud: Cloud, step: Step) -> None:
    """Until SSH lets us in with the key."""
    where = address(sdk)
    command = ssh(cloud, where, "true")
    options = ["-o", "ConnectTimeout=3", "-o", "BatchMode=yes"]
    full = [command[0], *options, *command[1:]]
    # An earlier server of that address had another host key.
    write_private(KeyFiles(cloud).known_hosts, "")
    step.note(f"SSH on {where}")
    step.until(_succeeds(full), seconds=120, every=0.3, what=f"SSH on {where}")


def _succeeds(command: list[str]) -> Callable[[], bool]:
    def probe() -> bool:
        started = time.monotonic()
        try:
            result = subprocess.run(
                command,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=SSH_SECONDS,
            )
        except subprocess.TimeoutExpired:  # it let us in, and then said nothing
            return False
        if result.returncode and time.monotonic() - started < 0.2:
            time.sleep(0.2)
        return result.returncode == 0

    return probe
