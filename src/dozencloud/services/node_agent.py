"""Reports of a node that joined to its controller."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision.ready import running_since
from dozencloud.supervision.service import Definition, Service, python_main


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    return Service(
        AGENT,
        command=python_main(plan, "dozencloud.nodes.joined.agent:main"),
        environment={"DOZEN_ROOT": str(cloud.root)} if cloud.root else {},
        confinement=Unconfined("restarts services, and changes networks"),
        ready=running_since(cloud, "node-agent", seconds=1),
    )


AGENT = Definition(
    name="node-agent",
    title="Reports to the controller (DozenCloud)",
    describe=describe,
    roles=frozenset((Role.COMPUTE,)),
    wanted=lambda plan: not plan.controls,
    root="renews the node's key, and starts services anew",
)
