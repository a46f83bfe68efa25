"""All services, in the order in which a request for a server meets them."""

from __future__ import annotations

from collections.abc import Callable

from dozencloud.services import (
    gateway,
    glance,
    keystone,
    libvirt,
    mariadb,
    memcached,
    neutron,
    nova,
    ovn,
    placement,
    privsep,
    rabbitmq,
)
from dozencloud.services.base import Plan, Service

ALL: tuple[Callable[[Plan], Service], ...] = (
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
    neutron.maintenance,
    neutron.agent,
    nova.metadata,
    nova.consoles,
)


def services(plan: Plan) -> list[Service]:
    """Descriptions of all services of this node."""
    return [make(plan) for make in ALL]
