"""The Keystone accounts of the services: who uses each, by which roles, and what these open.

The roles are of the project `service`, or of the whole cloud (Keystone's `system`), where Keystone
shows something to nobody else. None of the accounts is an administrator. Upstream's
policies open enough to the role `service`; what a narrower role may do is said here (`RULES`), and
written into the policy file of the service that is asked. docs/security.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROJECT = "service"
SERVICE = "service"
"""Upstream's role for services that act for users."""
TOKEN_CHECK = "token-check"  # noqa: S105  (a role)
SERVER_EVENTS = "server-events"
LIMIT_CHECK = "limit-check"
ROLES = (SERVICE, TOKEN_CHECK, SERVER_EVENTS, LIMIT_CHECK)


@dataclass(frozen=True)
class Account:
    """A Keystone user.  uses: what for, in words for people.  system: roles of the whole cloud."""

    name: str
    roles: tuple[str, ...]
    uses: str
    system: tuple[str, ...] = ()


NOVA_SENDS = "nova-sends"
"""Nova sends its token with a user's (X-Service-Token): to Glance and Neutron, which so take a
user's token that has expired meanwhile. So others hold it, and it opens nothing else of Nova's."""

ACCOUNTS = (
    Account(
        "glance",
        (TOKEN_CHECK,),
        "Glance checks the tokens of its callers, and reads what a project may have of images.",
        system=(LIMIT_CHECK,),
    ),
    Account("placement", (TOKEN_CHECK,), "Placement checks the tokens of its callers."),
    Account(
        "neutron",
        (TOKEN_CHECK, SERVER_EVENTS),
        "Neutron checks the tokens of its callers, and tells Nova what becomes of ports.",
    ),
    Account(
        "nova",
        (SERVICE,),
        "Nova checks the tokens of its callers, plugs servers into ports, and keeps Placement's "
        "books.",
    ),
    Account(NOVA_SENDS, (SERVICE,), "Its token goes along with a user's, when Nova calls others."),
)

_READERS = "rule:admin_required or (role:reader and system_scope:all)"
"""People who look at the whole cloud, in Keystone."""

RULES: Mapping[str, Mapping[str, str]] = {
    "keystone": {
        "identity:validate_token": f"{_READERS} or rule:service_role or rule:token_subject "
        f"or role:{TOKEN_CHECK}",
        # Limits of other projects are shown by the scope, and need no right.
        **{
            f"identity:{look_up}": f"{_READERS} or (role:{LIMIT_CHECK} and system_scope:all)"
            for look_up in ("list_services", "list_endpoints")
        },
        # Swift's and Keystone's own of before.
        "identity:ec2tokens_validate": "rule:admin_required",
        "identity:s3tokens_validate": "rule:admin_required",
        "identity:list_revoke_events": "rule:admin_required",
        "identity:revocation_list": "rule:admin_required",
    },
    "nova": {
        "os_compute_api:os-server-external-events:create": "rule:service_or_admin "
        f"or role:{SERVER_EVENTS}",
        # Cinder's.
        "os_compute_api:os-assisted-volume-snapshots:create": "rule:context_is_admin",
        "os_compute_api:os-assisted-volume-snapshots:delete": "rule:context_is_admin",
        "os_compute_api:os-volumes-attachments:swap": "rule:context_is_admin",
    },
    "neutron": {
        # Nova shows the floating IPs of a server, which it looks up with its own account.
        "get_floatingip": "(rule:admin_only) or (role:reader and project_id:%(project_id)s) "
        f"or role:{SERVICE}",
    },
    "glance": {
        # Locations of images' data and of stores: Cinder's.
        "service_api": "role:admin",
    },
}
"""Service -> rule -> who may. A test compares: for people it is what upstream says."""
