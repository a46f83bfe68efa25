"""The API that machines join by, and nodes report to. Runs from the first token on."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import Folder, Role, Service, api_folder, python_wsgi


def service(plan: Plan) -> Service:
    cloud, ours = plan.cloud, plan.cloud.settings.nodes
    return Service(
        name="nodes",
        title="Nodes that join (DozenCloud)",
        role=Role.CONTROL,
        command=python_wsgi(
            plan, "nodes", "dozencloud.nodes.controller.service:application", "/nodes"
        ),
        environment={
            **({"DOZEN_ROOT": str(cloud.root)} if cloud.root else {}),
            # It reads these when it starts; by this others start it anew.
            "DOZEN_NODES": f"{ours.broker},{ours.southbound},{ours.migration},{ours.ovn}",
        },
        folders=(Folder(cloud.run / "nodes"), api_folder(cloud, "nodes")),
        confinement=Unconfined("makes accounts in the broker, and starts services anew"),
        ready=answers(cloud, "nodes", "/nodes/v1/"),
        listens="/nodes",
    )
