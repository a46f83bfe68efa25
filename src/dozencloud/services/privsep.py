"""The parent of nova-compute's and the OVN agent's privileged helpers (supervision/helpers.py)."""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision import helpers
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import Definition, Folder, Service, python_main


def _socket(plan: Plan) -> Path:
    return plan.cloud.run / "privsep" / "privsep.sock"


def helper_command(plan: Plan, config: Path) -> str:
    """What oslo.privsep runs to get a helper; it appends context and socket.

    There is no sudo on a minimal system, and the services that call it are root already.
    """
    client = [plan.python, "-I", "-S", str(helpers.__file__), str(_socket(plan))]
    return " ".join([*client, "--config-file", str(config)])


def describe(plan: Plan) -> Service:
    path = _socket(plan)
    modules = helpers.COMPUTE + (helpers.NETWORK if plan.controls else ())
    return Service(
        PRIVSEP,
        command=python_main(plan, "dozencloud.supervision.helpers:serve", str(path), *modules),
        folders=(Folder(path.parent),),
        confinement=Unconfined("makes devices and namespaces, for others"),
        ready=accepting(path),
        listens="unix",
    )


PRIVSEP = Definition(
    name="privsep",
    title="Privileged helpers",
    describe=describe,
    roles=frozenset((Role.COMPUTE,)),
    root="forks the privileged helpers of Nova and Neutron; its socket is for root only",
)
