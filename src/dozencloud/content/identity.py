"""Who may do what in a new cloud: the administrator and the services' accounts, in Keystone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from dozencloud.access.administrator import connect
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.secret import Secrets
from dozencloud.services import accounts, keystone_users


def let_in(sdk: Any) -> bool:
    """Whether Keystone takes the administrator's password of secrets.json."""
    from keystoneauth1.exceptions import Unauthorized

    try:
        return bool(sdk.session.get_token())
    except Unauthorized:
        return False
    finally:
        # With the token comes the catalogue, which a changed address has not reached yet.
        sdk.session.invalidate()


def keystone(cloud: Cloud) -> Any:
    """Keystone at its address of now; what the catalogue names may be one of before."""
    here = f"{cloud.public_url}/identity/v3"
    return connect(cloud, identity_endpoint_override=here).identity


def make_accounts(identity: Any, secrets: Secrets) -> None:
    """The services' users, with their roles and no others."""
    project = identity.find_project(accounts.PROJECT) or identity.create_project(
        name=accounts.PROJECT, domain_id="default"
    )
    roles = {role.name: role for role in identity.roles()}
    for name in accounts.ROLES:
        roles[name] = roles.get(name) or identity.create_role(name=name)
    there = {user.name: user.id for user in identity.users(domain_id="default")}
    in_project = held_roles(identity.role_assignments(scope_project_id=project.id))
    in_all = held_roles(identity.role_assignments(scope_system="all"))
    for account in keystone_users():
        name = account.name
        if name not in there:
            made = identity.create_user(
                name=name, password=secrets[f"keystone.{name}"], domain_id="default"
            )
            there[name] = made.id
        user = there[name]
        hold_to(
            {roles[role].id for role in account.roles},
            in_project[user],
            partial(identity.assign_project_role_to_user, project, user),
            partial(identity.unassign_project_role_from_user, project, user),
        )
        hold_to(
            {roles[role].id for role in account.system},
            in_all[user],
            partial(identity.assign_system_role_to_user, user, system="all"),
            partial(identity.unassign_system_role_from_user, user, system="all"),
        )


def held_roles(assignments: Iterable[Any]) -> defaultdict[str, set[str]]:
    """ID of a user -> IDs of the roles that these assignments give to it."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for each in assignments:
        if each.user:
            held[each.user["id"]].add(each.role["id"])
    return held


def hold_to(
    wanted: set[str],
    has: set[str],
    give: Callable[[str], object],
    take: Callable[[str], object],
) -> None:
    """These roles and no others, each by its ID."""
    for role in wanted - has:
        give(role)
    for role in has - wanted:
        take(role)
