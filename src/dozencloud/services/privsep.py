"""The parent of nova-compute's and the OVN agent's privileged helpers (supervision/helpers.py)."""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud.plan import Plan
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision import helpers
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import Folder, Role, Service, python_main


def _socket(plan: Plan) -> Path:
    return plan.cloud.run / "privsep" / "privsep.sock"


def helper_command(plan: Plan, config: Path) -> str:
    """What oslo.privsep runs to get a helper; it appends context and socket.

    There is no sudo on a minimal system, and the services that call it are root already.
    """
    client = [plan.python, "-I", "-S", str(helpers.__file__), str(_socket(plan))]
    return " ".join([*client, "--config-file", str(config)])


def service(plan: Plan) -> Service:
    path = _socket(plan)
    modules = helpers.COMPUTE + (() if plan.membership else helpers.NETWORK)
    return Service(
        name="privsep",
        title="Privileged helpers",
        role=Role.COMPUTE,
        command=python_main(plan, "dozencloud.supervision.helpers:serve", str(path), *modules),
        folders=(Folder(path.parent),),
        confinement=Unconfined("makes devices and namespaces, for others"),
        ready=accepting(path),
        listens="unix",
    )
