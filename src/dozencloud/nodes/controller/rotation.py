"""New certificates for the whole cloud, in place of those in use; nobody is cut off for long."""

from __future__ import annotations

import time
from collections.abc import Callable

from dozencloud.cloud import certificates
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import members
from dozencloud.cloud.plan import Plan
from dozencloud.nodes import reports
from dozencloud.nodes.controller import authority, opening

SECONDS = 90.0
"""s that a node has to fetch its new certificate; it asks every 20 s."""
Say = Callable[[str], None]


def rotate(cloud: Cloud, say: Say) -> list[str]:
    """Certificates of the gateway, of OVN, of all nodes, and the authority of the latter.

    The cloud's own CA stays: users and tokens trust it. Returns the nodes that did not fetch a new
    certificate in time; they do when they are back.
    """
    certificates.issue_gateway(cloud)
    if not members(cloud):
        say("the gateway has a new certificate")
        opening.apply(Plan.kept(cloud))
        return []
    authority.issue_control(cloud)
    new = authority.replace(cloud, keep_old=True)
    opening.apply(Plan.kept(cloud))
    say("the gateway and OVN have new certificates; nodes fetch theirs")
    missing = _await(cloud, authority.identifier(new.certificate), say)
    authority.drop_old(cloud)
    opening.apply(Plan.kept(cloud))
    return missing


def _await(cloud: Cloud, good: str, say: Say) -> list[str]:
    """Nodes whose certificate is still of another authority after SECONDS."""
    left = [member.name for member in members(cloud)]
    end = time.monotonic() + SECONDS
    while left and time.monotonic() < end:
        for name in list(left):
            report = reports.last(cloud, name)
            if report and report.issuer == good:
                say(f"{name} has a new certificate")
                left.remove(name)
        time.sleep(1)
    return left
