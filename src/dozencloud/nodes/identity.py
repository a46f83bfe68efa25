"""Keystone accounts of nodes: one each, with the role `service` and no other."""

from __future__ import annotations

from typing import Any

from dozencloud.cloud.membership import account
from dozencloud.services import accounts


def grant(sdk: Any, node: str, password: str) -> None:
    """The node's account with this password. sdk: an administrator's connection."""
    identity, name = sdk.identity, account(node)
    user = identity.find_user(name)
    if user is None:
        user = identity.create_user(name=name, password=password, domain_id="default")
    else:
        identity.update_user(user, password=password)
    project = identity.find_project(accounts.PROJECT, ignore_missing=False)
    role = identity.find_role(accounts.SERVICE, ignore_missing=False)
    identity.assign_project_role_to_user(project, user, role)


def revoke(sdk: Any, node: str) -> None:
    """Remove the account; Keystone refuses its tokens from then on."""
    user = sdk.identity.find_user(account(node))
    if user is not None:
        sdk.identity.delete_user(user)
