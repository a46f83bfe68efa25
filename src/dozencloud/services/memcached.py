"""memcached: validated tokens. One per cloud, or two clouds would read each other's.

It knows no passwords, so it listens on a Unix socket in a folder of the services' group.
"""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.distributions.needs import Need
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import GROUP, Definition, Folder, Service

USER = "dozen-memcached"


def describe(plan: Plan) -> Service:
    folder = plan.cloud.run / "memcached"
    socket = folder / "memcached.sock"
    return Service(
        MEMCACHED,
        command=["memcached", "-s", str(socket), "-a", "0777", "-m", "32", "-t", "1"],
        user=USER,
        folders=(Folder(folder, USER, GROUP, 0o750),),
        ready=accepting(socket),
        listens="unix",
    )


MEMCACHED = Definition(
    name="memcached",
    title="Token cache (memcached)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    needs=(Need.CACHE,),
    foundation=True,
)
