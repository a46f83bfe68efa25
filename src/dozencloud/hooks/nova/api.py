"""Nova's API."""

from __future__ import annotations

from nova.wsgi.osapi_compute import application

from dozencloud.hooks.nova import events, networks, references

__all__ = ["application"]

references.use()
events.use()
networks.use()
