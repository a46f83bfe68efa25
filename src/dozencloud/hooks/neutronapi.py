"""Neutron's API, which refuses what breaks it, or the words of the README.

A network of the floating IPs has its name alone: an administrator's client sees the networks of all
projects, and takes no name that two have (`openstack floating ip create public`).

ML2/OVN looks for the router that such a port's `device_id` names, and takes None for one
(neutron/plugins/ml2/drivers/ovn/mech_driver/mech_driver.py, _is_ovn_router_flavor_port): status
500, and tracebacks in the log, for whoever owns a network.

A project's first servers, asked for together, get one network: upstream builds one for each, shows
all of them, and removes those that came second (neutron/services/auto_allocate/db.py,
_build_topology and _save); Nova, which sees several, refuses servers meanwhile.

Its rules are read before the first request: upstream reads them at the first, and refuses an
administrator whose request comes at the same time (neutron_lib/policy/_engine.py, init, and
neutron/policy.py, init: each names its enforcer before that has rules).
"""

from __future__ import annotations

from typing import Any

from neutron import policy
from neutron.common.ovn import utils as ovn_utils
from neutron.objects.network import ExternalNetwork, Network
from neutron.objects.router import Router
from neutron.services.auto_allocate.db import AutoAllocatedTopologyMixin
from neutron.wsgi.api import application
from neutron_lib import context
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.exceptions import BadRequest
from oslo_concurrency import lockutils
from oslo_utils import uuidutils

__all__ = ["application"]


def need_router(_resource: str, _event: str, _trigger: object, payload: Any) -> None:
    """Raise where the port is a router's, and the caller has no router of that name."""
    port: dict[str, Any] = {}
    for state in (*payload.states, payload.desired_state):
        port |= state or {}
    if not ovn_utils.is_lsp_router_port(port):
        return
    device = port.get("device_id")
    if not uuidutils.is_uuid_like(device) or not Router.objects_exist(payload.context, id=device):
        raise BadRequest(
            resource="port",
            msg="its device_owner says that it is a router's, so its device_id names one of yours. "
            "To connect a router use: openstack router add port ROUTER PORT",
        )


def need_own_name(_resource: str, _event: str, _trigger: object, payload: Any) -> None:
    """Raise where a project calls its network as one of the floating IPs is called."""
    name = (payload.latest_state or {}).get("name")
    if not name or payload.context.is_admin:
        return
    everybody = payload.context.elevated()
    mine = payload.resource_id
    if any(
        each.id != mine and ExternalNetwork.objects_exist(everybody, network_id=each.id)
        for each in Network.get_objects(everybody, name=name)
    ):
        raise BadRequest(
            resource="network",
            msg=f"{name} is the network of the floating IPs; give yours another name.",
        )


def build_one_at_a_time() -> None:
    """Let who asks for a project's own network wait while it is built for another."""
    upstream = AutoAllocatedTopologyMixin.get_auto_allocated_topology

    def get_auto_allocated_topology(
        self: Any, context: Any, project_id: str, fields: list[str] | None = None
    ) -> Any:
        if fields:  # a question: nothing is built
            return upstream(self, context, project_id, fields)
        whose = self._validate(context, project_id)
        with lockutils.lock(f"auto-allocated-topology-{whose}"):
            return upstream(self, context, project_id, fields)

    AutoAllocatedTopologyMixin.get_auto_allocated_topology = get_auto_allocated_topology


context.Context()
policy.init()
build_one_at_a_time()
for event in (events.BEFORE_CREATE, events.BEFORE_UPDATE):
    registry.subscribe(need_router, resources.PORT, event)
for event in (events.BEFORE_CREATE, events.PRECOMMIT_UPDATE):
    registry.subscribe(need_own_name, resources.NETWORK, event)
