"""The API that machines join by, and nodes report to. Runs from the first token on."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import (
    Api,
    Definition,
    Folder,
    Rate,
    Service,
    api_folders,
    python_wsgi,
)


def describe(plan: Plan) -> Service:
    cloud, ours = plan.cloud, plan.cloud.settings.nodes
    return Service(
        NODES,
        command=python_wsgi(plan, NODES, "dozencloud.nodes.controller.service:application"),
        environment={
            **({"DOZEN_ROOT": str(cloud.root)} if cloud.root else {}),
            # It reads these when it starts; by this others start it anew.
            "DOZEN_NODES": f"{ours.broker},{ours.southbound},{ours.migration},{ours.ovn}",
        },
        folders=(Folder(cloud.run / "nodes"), *api_folders(cloud, NODES)),
        confinement=Unconfined("makes accounts in the broker, and starts services anew"),
        ready=answers(cloud, "nodes", "/nodes/v1/"),
    )


NODES = Definition(
    name="nodes",
    title="Nodes that join (DozenCloud)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    wanted=lambda plan: plan.takes_nodes,
    api=Api(
        "nodes",
        body="64k",
        # Tokens have 192 random bits; this keeps guesses from costing time.
        rate=Rate(per_second=5, burst=20),
        internal=False,
    ),
    root="signs certificates, and makes accounts in the broker",
)
