"""Nova's metadata service."""

from __future__ import annotations

from nova.wsgi.metadata import application

from dozencloud.hooks.nova import references

__all__ = ["application"]

references.use()
