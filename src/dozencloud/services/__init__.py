"""All services, in the order in which a request for a server meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dozencloud.cloud.plan import Plan
from dozencloud.services import (
    clock,
    gate,
    gateway,
    glance,
    keystone,
    libvirt,
    mariadb,
    memcached,
    neutron,
    node_agent,
    nodes,
    nova,
    ovn,
    placement,
    port_guard,
    privsep,
    rabbitmq,
)
from dozencloud.supervision.service import Service

FIRST: tuple[Callable[[Plan], Service], ...] = (
    gateway.service,
    keystone.service,
    memcached.service,
    mariadb.service,
    nova.api,
    glance.service,
    placement.service,
    neutron.api,
    rabbitmq.service,
    rabbitmq.names,
    nova.conductor,
    nova.scheduler,
    nova.compute,
    privsep.service,
    libvirt.daemon,
    libvirt.log_daemon,
    ovn.northbound,
    ovn.southbound,
    ovn.northd,
    ovn.controller,
    ovn.switch,
    ovn.switch_database,
    port_guard.service,
    neutron.maintenance,
    neutron.agent,
    nova.metadata,
    nova.consoles,
)


TAKES_NODES: tuple[Callable[[Plan], Service], ...] = (nodes.service,)
"""Besides, on a controller that nodes may join."""

JOINED: tuple[Callable[[Plan], Service], ...] = (
    nova.compute,
    privsep.service,
    libvirt.daemon,
    libvirt.log_daemon,
    ovn.controller,
    ovn.switch,
    ovn.switch_database,
    port_guard.service,
    node_agent.service,
    gate.service,
)
"""On a node that joined a cloud. Its servers have config drives: no metadata agent."""


def services(plan: Plan) -> list[Service]:
    """Descriptions of all services of this node."""
    makers = JOINED if plan.membership else (*FIRST, *(TAKES_NODES if plan.takes_nodes else ()))
    found = [make(plan) for make in (*makers, *((clock.service,) if plan.node.keeps_time else ()))]
    here = {service.name for service in found}
    return [replace(s, after=tuple(n for n in s.after if n in here)) for s in found]
