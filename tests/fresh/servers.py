"""Servers in the cloud of a machine that was made for a test."""

from __future__ import annotations

from machine import Machine

SECONDS = 180
"""Until a server that started again has its network; it is emulated."""


def make_server(controller: Machine, name: str, node: str) -> str:
    """A server of the small image on that node; its floating IP."""
    openstack = ["./dozen", "openstack"]
    create = ["server", "create", "--image", "tiny-arm64", "--flavor", "m1.nano"]
    create += ["--network", "private", "--security-group", "ssh", "--key-name", "dozen"]
    create += ["--availability-zone", f"nova:{node}", "--wait", name]
    controller.run([*openstack, *create], check=True)
    ask = ["floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address"]
    address = controller.run([*openstack, *ask], check=True).stdout.strip()
    controller.run([*openstack, "server", "add", "floating", "ip", name, address], check=True)
    return address
