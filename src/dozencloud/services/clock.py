"""chrony, where nothing keeps the machine's clock on time and no systemd could start it.

With the distribution's own settings: with systemd it runs as the machine's own service.
"""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.supervision.ready import running_since
from dozencloud.supervision.service import Definition, Service


def describe(plan: Plan) -> Service:
    return Service(
        CLOCK,
        command=["/usr/sbin/chronyd", "-d", "-u", registry.here().time.user],
        confinement=Unconfined("sets the clock, and becomes its own user"),
        ready=running_since(plan.cloud, "clock", seconds=1),
    )


CLOCK = Definition(
    name="clock",
    title="Time (chrony)",
    describe=describe,
    roles=frozenset(Role),
    wanted=lambda plan: plan.node.keeps_time,
    needs=(Need.TIME,),
    root="sets the clock, and becomes chrony's own user",
)
