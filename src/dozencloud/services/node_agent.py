"""Reports of a node that joined to its controller."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision.ready import running_since
from dozencloud.supervision.service import Role, Service, python_main


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    return Service(
        name="node-agent",
        title="Reports to the controller (DozenCloud)",
        role=Role.COMPUTE,
        command=python_main(plan, "dozencloud.nodes.joined.agent:main"),
        environment={"DOZEN_ROOT": str(cloud.root)} if cloud.root else {},
        confinement=Unconfined("restarts services, and changes networks"),
        ready=running_since(cloud, "node-agent", seconds=1),
    )
