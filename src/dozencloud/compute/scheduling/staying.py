"""A server stays on its node when it is resized, and is not migrated, unless nodes trust others.

For both Nova's computes call each other and copy disks. Nodes that joined may be let do that
(nodes.migration in cloud.toml); the controller trusts none. Elsewhere a server moves by shelving:
through Glance, with no word between the two.
"""

from __future__ import annotations

from typing import Any

import nova.conf
from nova.compute import task_states
from nova.exception import InstanceNotFound, NoValidHost
from nova.objects.instance import Instance
from nova.objects.request_spec import Destination
from oslo_config import cfg

from dozencloud.compute.scheduling.cells import in_cell

CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.BoolOpt(
            "migration",
            default=False,
            help="Servers migrate between nodes that joined; these trust each other.",
        )
    ],
    "dozencloud",
)
MOVING = (task_states.RESIZE_PREP, task_states.MIGRATING)
SHELVE = "Shelve it (openstack server shelve), then unshelve it: it starts where there is room."
STAYS = f"A server is not handed from one node to another (nodes.migration is false). {SHELVE}"
FROM_CONTROLLER = f"A server is not handed from the controller to a node. {SHELVE}"
TO_CONTROLLER = f"A server is not handed from a node to the controller. {SHELVE}"


def hold(context: Any, spec: Any, uuids: list[str]) -> None:
    """Let only nodes be chosen that the server's own trusts; NoValidHost if that is none.

    Servers that are new, shelved, or evacuated from a lost node go where there is room.
    """
    for uuid in uuids:
        if instance := _instance(context, uuid):
            _hold(spec, instance, CONF.host if CONF.dozencloud.migration else None)


def _instance(context: Any, uuid: str) -> Any:
    try:
        return in_cell(context, uuid, lambda cell: Instance.get_by_uuid(cell, uuid))
    except InstanceNotFound:
        return None


def _hold(spec: Any, instance: Any, controller: str | None) -> None:
    """controller: the one that no node is trusted by; None where no node trusts another."""
    if instance.task_state not in MOVING:
        return
    wished = spec.requested_destination or Destination()
    host = wished.host if "host" in wished else None
    ignored = list(spec.ignore_hosts or ())
    if controller and instance.host != controller:
        if host == controller:
            raise NoValidHost(reason=TO_CONTROLLER)
        spec.ignore_hosts = [*ignored, controller]
        return
    if host not in (None, instance.host) or instance.host in ignored:
        raise NoValidHost(reason=FROM_CONTROLLER if controller else STAYS)
    wished.host = instance.host
    spec.requested_destination = wished
