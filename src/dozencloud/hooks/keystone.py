"""Keystone's API, its policy loaded before the first request.

Upstream makes the enforcer at the first request that needs one, and shows it to other threads
before it has rules (keystone/common/rbac_enforcer/enforcer.py, _enforcer): of several requests that
come first and together some are refused with "You are not authorized".
"""

from __future__ import annotations

import flask
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer
from keystone.wsgi.api import application

from dozencloud.hooks import logins

__all__ = ["application"]


def load_policy() -> None:
    """Make the enforcer that all threads share, with all of its rules."""
    # Without a request Keystone warns of each deprecated rule.
    with flask.Flask(__name__).test_request_context():
        RBACEnforcer()._enforcer.load_rules()


load_policy()
logins.use()
