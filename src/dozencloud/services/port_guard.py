"""What servers must not say to each other; why: host/network/portflows.py."""

from __future__ import annotations

import os
import subprocess

from dozencloud.cloud.installation import INTEGRATION_BRIDGE
from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.network import switching
from dozencloud.host.network.portflows import COOKIE
from dozencloud.supervision.service import Definition, Service, python_main


def describe(plan: Plan) -> Service:
    """Root: it writes flows through root's socket of the switch."""
    cloud = plan.cloud
    environment = switching.environment(cloud)
    flows = ("ovs-ofctl", "--timeout=5", "dump-flows", INTEGRATION_BRIDGE, f"cookie={COOKIE:#x}/-1")

    def ready() -> bool:
        done = subprocess.run(
            flows,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=30,
        )
        return "actions=drop" in done.stdout

    return Service(
        PORT_GUARD,
        command=python_main(plan, "dozencloud.host.network.portguard:main"),
        environment={**environment, **({"DOZEN_ROOT": str(cloud.root)} if cloud.root else {})},
        after=("ovn-controller",),
        # Before all that could make flows by which a packet leaves.
        nice=-10,
        ready=ready,
    )


PORT_GUARD = Definition(
    name="port-guard",
    title="Servers are no routers (DozenCloud)",
    describe=describe,
    roles=frozenset((Role.COMPUTE,)),
    root="writes flows through root's socket of the switch",
)
