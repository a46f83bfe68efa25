"""A node goes, or is shut out."""

from __future__ import annotations

from typing import Any

from dozencloud.access import administrator
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import changing
from dozencloud.cloud.plan import Plan
from dozencloud.nodes import identity
from dozencloud.nodes.controller import authority, broker, opening
from dozencloud.nodes.tokens import Refused


def let_go(cloud: Cloud, name: str) -> None:
    """The node leaves; Refused while it has servers.

    Its accounts end first: a nova-compute that is still at work would enter itself again, and
    another machine of that name would find its records taken.
    """
    _refuse_with_servers(_connect(cloud), name)
    shut_out(cloud, name)
    forget(cloud, name)


def shut_out(cloud: Cloud, name: str) -> None:
    """Take the node's accounts away, and make its certificate worthless, whatever is on it.

    The other nodes get new certificates within half a minute; until then nothing but their way to
    the southbound database and the broker is closed, and their servers do not notice.
    """
    broker.revoke(cloud, name)
    identity.revoke(_connect(cloud), name)
    with changing(cloud, "members") as rows:
        rows[:] = [row for row in rows if row["name"] != name]
    if cloud.settings.nodes.migration:
        broker.permit(cloud)
    authority.replace(cloud, keep_old=False)
    opening.apply(Plan.kept(cloud))


def forget(cloud: Cloud, name: str) -> None:
    """Remove what Nova, Neutron and Placement know of the node; Refused while it has servers."""
    sdk = _connect(cloud)
    _refuse_with_servers(sdk, name)
    for service in sdk.compute.services(binary="nova-compute", host=name):
        # Nova removes the node's resource provider and host mapping with it.
        sdk.compute.delete_service(service)
    for agent in sdk.network.agents(host=name):
        sdk.network.delete_agent(agent)


def servers(sdk: Any, name: str) -> list[Any]:
    """Servers of all projects on that node."""
    return [s for s in sdk.compute.servers(all_projects=True) if s.compute_host == name]


def _refuse_with_servers(sdk: Any, name: str) -> None:
    if there := servers(sdk, name):
        raise Refused(
            f"{len(there)} server(s) are on {name}: {', '.join(s.name for s in there)}.",
            f"Move them first, on the controller: dozen node drain {name}",
        )


def _connect(cloud: Cloud) -> Any:
    return administrator.connect(cloud)
