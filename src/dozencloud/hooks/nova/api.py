"""Nova's API."""

from __future__ import annotations

from nova.wsgi.osapi_compute import application

from dozencloud.hooks.nova import events, hostnames, networks, quotas, references

__all__ = ["application"]

references.use()
events.use()
hostnames.use()
networks.use()
quotas.use()
