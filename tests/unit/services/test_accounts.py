"""The accounts of the services have the least that works."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from oslo_policy import policy

from dozencloud.services import ALL, accounts, keystone_users, nova

TOOLS = str(Path(__file__).resolve().parents[3] / "tools")
OWN = {"project_id": "own", "tenant_id": "own", "owner": "own", "user_id": "me"}
OTHERS = {"project_id": "another", "tenant_id": "another", "owner": "another", "user_id": "you"}
PEOPLE: tuple[Mapping[str, Any], ...] = (
    {"roles": ["admin", "manager", "member", "reader"], "is_admin": True},
    {"roles": ["manager", "member", "reader"]},
    {"roles": ["member", "reader"]},
    {"roles": ["reader"]},
    {"roles": ["admin", "reader"], "is_admin": True, "system_scope": "all"},
    {"roles": ["reader"], "system_scope": "all"},
)
WRITTEN = [(each.api.name, rule) for each in ALL if each.api for rule in each.rules]


@pytest.fixture(scope="module")
def rights() -> Any:
    sys.path.insert(0, TOOLS)
    try:
        return importlib.import_module("made.accounts")
    finally:
        sys.path.remove(TOOLS)


def test_no_account_is_an_administrator() -> None:
    held = {role for account in keystone_users() for role in (*account.roles, *account.system)}
    assert held == set(accounts.ROLES)
    assert "admin" not in held


def test_the_token_that_nova_sends_has_the_role_service_alone() -> None:
    (sends,) = (a for a in keystone_users() if a.name == nova.SENDS)
    assert sends.roles == ("service",)


@pytest.mark.parametrize(("service", "rule"), WRITTEN)
def test_for_people_our_rules_say_what_upstream_says(
    rights: Any, tmp_path: Path, service: str, rule: str
) -> None:
    ours = rights.enforcer(service, tmp_path / "policy.yaml")
    upstream = policy.Enforcer(ours.conf, policy_file=str(tmp_path / "none.yaml"))
    upstream.suppress_deprecation_warnings = upstream.suppress_default_change_warnings = True
    upstream.register_defaults(importlib.import_module(rights.POLICIES[service]).list_rules())
    for who in PEOPLE:
        for target in (OWN, OTHERS):
            person = {"project_id": "own", "user_id": "me", "system_scope": None, **who}
            asked = [each.enforce(rule, dict(target), person) for each in (ours, upstream)]
            assert asked[0] == asked[1], (who, target)


def test_a_narrow_role_opens_what_it_is_for(rights: Any) -> None:
    def opened(role: str) -> dict[str, list[str]]:
        return {service: names for service, names in rights.rights(role).items() if names}

    assert opened(accounts.TOKEN_CHECK) == {"keystone": ["identity:validate_token"]}
    look_ups = ["identity:list_endpoints", "identity:list_services"]
    assert opened(accounts.LIMIT_CHECK) == {"keystone": look_ups}
    events = "os_compute_api:os-server-external-events:create"
    assert opened(accounts.SERVER_EVENTS) == {"nova": [events]}


def test_the_role_service_reads_and_changes_ports_and_the_books_only(rights: Any) -> None:
    opened = rights.rights(accounts.SERVICE)
    assert opened["keystone"] == ["identity:validate_token"]
    assert opened["nova"] == ["os_compute_api:os-server-external-events:create"]
    assert opened["glance"] == []
    changed = {name.partition(":")[0] for name in opened["neutron"] if not name.startswith("get")}
    assert changed == {
        *("create_port", "update_port", "delete_port"),
        *("create_port_binding", "delete_port_binding", "activate"),
    }
