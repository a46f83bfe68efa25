"""A machine's side of leaving its cloud."""

from __future__ import annotations

import uuid
from contextlib import suppress

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Membership
from dozencloud.errors import Problem
from dozencloud.nodes.joined.client import Controller
from dozencloud.nodes.tokens import Reason, Refused


def disks(cloud: Cloud) -> list[str]:
    """Ids of the servers whose disks lie here."""
    found = []
    for folder in (cloud.lib / "compute" / "instances").glob("*-*"):
        with suppress(ValueError):
            found.append(str(uuid.UUID(folder.name)))
    return found


def tell(cloud: Cloud, given: Membership) -> str:
    """Ask the controller to forget this node; returns why it could not be told, or nothing.

    Raises Refused while the controller has servers here.
    """
    try:
        Controller(given.controller, cloud.ca).leave(given.node, given.secret)
    except Refused as refused:
        if refused.reason is Reason.UNKNOWN_NODE:
            return ""
        raise
    except Problem as problem:
        return problem.what
    return ""
