"""What the accounts of the services may do.

It asks the policies of the pinned releases themselves, with the rules of our services.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from oslo_config import cfg
from oslo_policy import policy

from dozencloud.services import ALL, accounts, keystone_users
from dozencloud.supervision.service import Account
from made.markdown import code, codes, table

POLICIES: Mapping[str, str] = {
    "keystone": "keystone.common.policies",
    "nova": "nova.policies",
    "neutron": "neutron.conf.policies",
    "glance": "glance.policies",
    "placement": "placement.policies",
}
PREFIX = {"keystone": "identity:", "nova": "os_compute_api:", "placement": "placement:"}
NOBODY = "a role that no policy knows"
TARGET = {"project_id": "another", "tenant_id": "another", "user_id": "another"}


def enforcer(service: str, rules: Path) -> policy.Enforcer:
    """Upstream's policies of the service, with the policy file that a cloud gets."""
    (definition,) = (each for each in ALL if each.api and each.api.name == service)
    rules.write_text(json.dumps(dict(definition.rules)))
    conf = cfg.ConfigOpts()
    conf([], project=service, default_config_files=[])
    found = policy.Enforcer(conf, policy_file=str(rules))
    found.suppress_deprecation_warnings = found.suppress_default_change_warnings = True
    found.register_defaults(importlib.import_module(POLICIES[service]).list_rules())
    return found


def allowed(service: str, role: str) -> set[str]:
    """Operations of the API that somebody with that role alone may do to what is another's."""
    whole = any(role in account.system for account in keystone_users())
    scope = {"system_scope": "all"} if whole else {"project_id": accounts.PROJECT}
    who = {"roles": [role], "user_id": "account", **scope}
    with tempfile.TemporaryDirectory() as folder:
        asked = enforcer(service, Path(folder, "policy.yaml"))
        asked.load_rules()
        return {
            name
            for name, rule in asked.registered_rules.items()
            if isinstance(rule, policy.DocumentedRuleDefault)
            and asked.enforce(name, dict(TARGET), who)
        }


def rights(role: str) -> dict[str, list[str]]:
    """Service -> operations that the role opens, beyond what it takes no role for."""
    return {
        service: sorted(allowed(service, role) - allowed(service, NOBODY)) for service in POLICIES
    }


def roles(account: Account) -> str:
    return codes(account.roles) + "".join(
        f", {code(role)} of the whole cloud" for role in account.system
    )


def accounts_table() -> str:
    return table(
        ("account", "roles", "what for"),
        ((code(each.name), roles(each), each.uses) for each in keystone_users()),
    )


def rights_table() -> str:
    return table(("role", "API", "operations, by the names of upstream's policies"), _opened())


def _opened() -> Iterator[tuple[str, str, str]]:
    for role in accounts.ROLES:
        for service, names in rights(role).items():
            if names:
                prefix = PREFIX.get(service, "")
                yield code(role), service, codes(name.removeprefix(prefix) for name in names)
