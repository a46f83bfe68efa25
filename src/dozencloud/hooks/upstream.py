"""Every private name of the pinned releases that the hooks replace or call, and how it looks.

A test holds each against what is installed. What the compute driver relies on: compute/upstream.py.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED: Mapping[str, tuple[str, ...]] = {
    "keystone.api._shared.authentication:authenticate_for_token": ("auth",),
    "keystone.common.password_hashing:check_password": ("password", "hashed"),
    "keystone.identity.backends.sql:Identity._record_failed_auth": ("self", "user_id"),
}
"""module:name -> names of its parameters."""

USED: tuple[str, ...] = ("keystone.common.password_hashing:hash_password",)
"""Called, read or subclassed."""
