"""Neutron tells Nova what becomes of ports by an account that is no administrator's.

Upstream's policy lets the role `service` do that, but then looks for the servers as if they were
the caller's own, and drops the event (nova/api/openstack/compute/server_external_events.py;
instances are filtered by project unless the context is an administrator's).
"""

from __future__ import annotations

from typing import Any


def use() -> None:
    """Find the servers of external events in all projects; who may send them, policy has said."""
    from nova.api.openstack.compute.server_external_events import ServerExternalEventsController

    upstream = ServerExternalEventsController._get_instances_all_cells

    def _get_instances_all_cells(
        self: Any, context: Any, instance_uuids: Any, instance_mappings: Any
    ) -> Any:
        return upstream(self, context.elevated(), instance_uuids, instance_mappings)

    ServerExternalEventsController._get_instances_all_cells = _get_instances_all_cells
