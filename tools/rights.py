"""Print what the accounts of the services may do, as the tables in docs/security.md.

It asks the policies of the pinned releases themselves, with the rules of our services.

    ENVIRONMENT/bin/python tools/rights.py
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


def tables() -> Iterator[str]:
    """Lines of Markdown."""
    yield "| account | roles | what for |"
    yield "|---|---|---|"
    for account in keystone_users():
        roles = ", ".join(f"`{role}`" for role in account.roles)
        roles += "".join(f", `{role}` of the whole cloud" for role in account.system)
        yield f"| `{account.name}` | {roles} | {account.uses} |"
    yield ""
    yield "| role | API | operations, by the names of upstream's policies |"
    yield "|---|---|---|"
    for role in accounts.ROLES:
        for service, names in rights(role).items():
            if names:
                shown = ", ".join(
                    f"`{name.removeprefix(PREFIX.get(service, ''))}`" for name in names
                )
                yield f"| `{role}` | {service} | {shown} |"


if __name__ == "__main__":
    print("\n".join(tables()))
