"""Roles of the services' Keystone accounts, and what these open.

They are of the project `service`, or of the whole cloud (Keystone's `system`), where Keystone
shows something to nobody else. None of the accounts is an administrator. Upstream's policies open
enough to the role `service`; what a narrower role may do each service says by rules of its own
(`RULES` in its file), which go into its policy file. docs/security.md has the table.
"""

from __future__ import annotations

PROJECT = "service"
SERVICE = "service"
"""Upstream's role for services that act for users."""
TOKEN_CHECK = "token-check"  # noqa: S105  (a role)
SERVER_EVENTS = "server-events"
LIMIT_CHECK = "limit-check"
ROLES = (SERVICE, TOKEN_CHECK, SERVER_EVENTS, LIMIT_CHECK)
