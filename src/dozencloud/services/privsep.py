"""The parent of the privileged helpers of nova-compute and the OVN agent (dozencloud.privsep)."""

from __future__ import annotations

from pathlib import Path

from dozencloud import privsep
from dozencloud.host.confinement import Unconfined
from dozencloud.services.base import Folder, Plan, Role, Service, accepting, python_main


def _socket(plan: Plan) -> Path:
    return plan.cloud.run / "privsep" / "privsep.sock"


def helper_command(plan: Plan, config: Path) -> str:
    """What oslo.privsep runs to get a helper; it appends context and socket.

    There is no sudo on a minimal system, and the services that call it are root already.
    """
    client = [plan.python, "-I", "-S", str(privsep.__file__), str(_socket(plan))]
    return " ".join([*client, "--config-file", str(config)])


def service(plan: Plan) -> Service:
    path = _socket(plan)
    modules = privsep.COMPUTE + (() if plan.membership else privsep.NETWORK)
    return Service(
        name="privsep",
        title="Privileged helpers",
        role=Role.COMPUTE,
        command=python_main(plan, "dozencloud.privsep:serve", str(path), *modules),
        folders=(Folder(path.parent),),
        confinement=Unconfined("makes devices and namespaces, for others"),
        ready=accepting(path),
        listens="unix",
    )
