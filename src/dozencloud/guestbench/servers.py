"""From a server's name to how it is reached."""

from __future__ import annotations

from typing import Any

from dozencloud.access import client
from dozencloud.guestbench.run import Login, Target

RUNS = {"kvm": "KVM", "qemu": "emulated"}
"""As the driver tells in a server's diagnostics."""


def target(sdk: Any, name: str, user: str, **login: Any) -> Target:
    """The server, ready to be measured; Problem if it cannot be reached. login: as in Login."""
    server = client.find_server(sdk, name)
    client.need_on(server)
    return Target(name, Login(client.floating_ip(sdk, server), user, **login), _runs(sdk, server))


def _runs(sdk: Any, server: Any) -> str:
    from openstack.exceptions import SDKException

    try:
        # Nova tells it to administrators only.
        diagnostics = sdk.compute.get_server_diagnostics(server)
    except SDKException:
        return ""
    return RUNS.get(diagnostics.hypervisor, "")
