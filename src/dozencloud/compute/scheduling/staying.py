"""A server stays on its node when it is resized, and is not migrated.

For both Nova's computes would call each other and copy disks by ssh. Nodes do not trust each other.
A server moves by shelving: through Glance, with no word between the two.
"""

from __future__ import annotations

from typing import Any

from nova.compute import task_states
from nova.context import target_cell
from nova.exception import InstanceMappingNotFound, InstanceNotFound, NoValidHost
from nova.objects.instance import Instance
from nova.objects.instance_mapping import InstanceMapping
from nova.objects.request_spec import Destination

MOVING = (task_states.RESIZE_PREP, task_states.MIGRATING)
STAYS = (
    "A server is not handed from one node to another. Shelve it (openstack server shelve), then "
    "unshelve it: it starts where there is room."
)


def hold(context: Any, spec: Any, uuids: list[str]) -> None:
    """Let only the server's own node be chosen, if Nova would move it; NoValidHost if it may not.

    Servers that are new, shelved, or evacuated from a lost node go where there is room.
    """
    for uuid in uuids:
        if instance := _instance(context, uuid):
            _hold(spec, instance)


def _instance(context: Any, uuid: str) -> Any:
    try:
        mapping = InstanceMapping.get_by_instance_uuid(context, uuid)
        if not mapping.cell_mapping:
            return None  # a new one
        with target_cell(context, mapping.cell_mapping) as cell:
            return Instance.get_by_uuid(cell, uuid)
    except (InstanceMappingNotFound, InstanceNotFound):
        return None


def _hold(spec: Any, instance: Any) -> None:
    if instance.task_state not in MOVING:
        return
    wished = spec.requested_destination or Destination()
    other = "host" in wished and wished.host not in (None, instance.host)
    if other or instance.host in (spec.ignore_hosts or ()):
        raise NoValidHost(reason=STAYS)
    wished.host = instance.host
    spec.requested_destination = wished
