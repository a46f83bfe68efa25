"""chrony, where nothing keeps the machine's clock on time and no systemd could start it.

With Debian's own settings (/etc/chrony): with systemd it runs as the machine's own service.
"""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.supervision.ready import running_since
from dozencloud.supervision.service import Definition, Service

USER = "_chrony"


def describe(plan: Plan) -> Service:
    return Service(
        CLOCK,
        command=["/usr/sbin/chronyd", "-d", "-u", USER],
        confinement=Unconfined("sets the clock, and becomes its own user"),
        ready=running_since(plan.cloud, "clock", seconds=1),
    )


CLOCK = Definition(
    name="clock",
    title="Time (chrony)",
    describe=describe,
    roles=frozenset(Role),
    wanted=lambda plan: plan.node.keeps_time,
    root="sets the clock, and becomes `_chrony`",
)
