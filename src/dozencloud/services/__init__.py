"""The services of a cloud, a file each; here all, in the order in which a request meets them."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.distributions.needs import OF_CONTROLLERS, OF_MACHINES, Need
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
from dozencloud.supervision.service import Account, Api, Definition, Service

ALL: tuple[Definition, ...] = (
    gateway.in_front_of(lambda: ALL),
    keystone.KEYSTONE,
    memcached.MEMCACHED,
    mariadb.MARIADB,
    nova.API,
    glance.GLANCE,
    placement.PLACEMENT,
    neutron.API,
    rabbitmq.RABBITMQ,
    rabbitmq.NAMES,
    nova.CONDUCTOR,
    nova.SCHEDULER,
    nova.COMPUTE,
    privsep.PRIVSEP,
    libvirt.LIBVIRTD,
    libvirt.LOG,
    ovn.NORTHBOUND,
    ovn.SOUTHBOUND,
    ovn.NORTHD,
    ovn.CONTROLLER,
    ovn.SWITCH,
    ovn.SWITCH_DATABASE,
    port_guard.PORT_GUARD,
    neutron.MAINTENANCE,
    neutron.AGENT,
    nova.METADATA,
    nova.CONSOLES,
    nodes.NODES,
    node_agent.AGENT,
    gate.GATE,
    clock.CLOCK,
)


def catalogued() -> list[Api]:
    """APIs that stand in Keystone's catalogue."""
    return [each.api for each in ALL if each.api and each.api.kind]


def keystone_users() -> list[Account]:
    """The accounts of all services."""
    return [account for each in ALL for account in each.accounts]


def needs(roles: frozenset[Role], *, time: bool) -> frozenset[Need]:
    """What a machine with these roles takes of the system's packages.

    time: nothing else keeps its clock.
    """
    found = {need for each in ALL if each.roles & roles for need in each.needs}
    own = OF_CONTROLLERS if Role.CONTROL in roles else frozenset[Need]()
    return (OF_MACHINES | own | found) - (frozenset() if time else {Need.TIME})


def services(plan: Plan) -> list[Service]:
    """All services of this machine."""
    return [each.describe(plan) for each in ALL if each.here(plan)]
