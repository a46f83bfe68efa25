"""A node's reports to its controller, and its certificate, which is renewed in time.

The controller answers which authority signs now; a certificate of another one is replaced at once:
so a node learns that another was shut out. It also answers whether nodes trust each other.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dozencloud import RELEASE, facts
from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud, load
from dozencloud.cloud.membership import Membership, keep, membership
from dozencloud.cloud.plan import Plan
from dozencloud.errors import Problem
from dozencloud.facts.memory import disk, memory
from dozencloud.nodes.controller import authority
from dozencloud.nodes.joined import joining, peers
from dozencloud.nodes.joined.client import Controller
from dozencloud.nodes.reports import Report
from dozencloud.services import gateway, ovn, ovnseries
from dozencloud.supervision.client import Supervisor
from dozencloud.tasks.graph import Step

EVERY = 20.0
"""s between two reports."""
log = logging.getLogger("dozencloud.nodes.joined.agent")


def observed(cloud: Cloud) -> Report:
    """How this machine is now."""
    found, memory_now, space = facts.gather(), memory(), disk(cloud.lib)
    kvm, arm = found.kvm, found.system.architecture.arm
    return Report(
        release=RELEASE,
        architecture=found.system.architecture.kernel,
        board=facts.board(),
        clusters=tuple((cluster.model, len(cluster.cpus)) for cluster in found.cpu.clusters),
        kvm=kvm.for_servers and arm,
        aarch32=kvm.for_servers and kvm.aarch32_el1,
        memory=memory_now.total,
        available=memory_now.available,
        disk=space.total,
        free=space.free,
        temperature=facts.temperature(),
        issuer=_issuer(cloud),
        clock=time.time(),
        encapsulation=Plan.kept(cloud).node.encapsulation,
        networks=ovnseries.installed("ovn-controller"),
    )


def _issuer(cloud: Cloud) -> str:
    """Of this node's certificate; the controller has none."""
    try:
        return authority.issuer(_certificate(cloud))
    except FileNotFoundError:
        return ""


def _certificate(cloud: Cloud) -> x509.Certificate:
    return x509.load_pem_x509_certificate((tls.folder(cloud) / "node.crt").read_bytes())


def say(cloud: Cloud, given: Membership) -> None:
    """Report once; get a new certificate if this one is not good any more. Raises Problem."""
    controller = Controller(given.controller, cloud.ca)
    answer = _report(cloud, given, controller)
    named = str(answer.get("migration", ""))  # a controller of the series before is silent
    # A certificate of an earlier release is not good for libvirt.
    begins = bool(named) and not given.migration
    renewed = stale(cloud, str(answer["authority"])) or begins
    if renewed:
        renew(cloud, given, controller)
        _report(cloud, given, controller)
    spoken = str(answer.get("encapsulations", given.encapsulations))
    if spoken != given.encapsulations:
        given = replace(given, encapsulations=spoken)
        ovn.introduce(replace(Plan.kept(cloud), membership=given), Step(sys.stderr))
        keep(cloud, given)
    if named != given.migration or (named and renewed):
        peers.postpone(cloud, toggled=bool(named) != bool(given.migration))
        peers.meet(cloud, given, controller)
    peers.restart(cloud)


def _report(cloud: Cloud, given: Membership, controller: Controller) -> dict[str, Any]:
    report = asdict(observed(cloud))
    del report["seen"]  # it is the controller's to say
    return controller.report(given.node, given.secret, report)


def stale(cloud: Cloud, good: str) -> bool:
    """Whether this node needs a new certificate. good: which authority's are let in."""
    held = _certificate(cloud)
    left = held.not_valid_after_utc - datetime.now(UTC)
    return left.days < certificates.RENEW_DAYS or authority.issuer(held) != good


def renew(cloud: Cloud, given: Membership, controller: Controller) -> None:
    """A new key and certificate in place of the old.

    Who uses them reads them when it connects; the gate has to be told.
    """
    (chassis,) = _certificate(cloud).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    key = ec.generate_private_key(ec.SECP256R1())
    request = joining.request(key, str(chassis.value))
    made = controller.certificate(given.node, given.secret, request)
    certificates.replace_pair(tls.folder(cloud) / "node", made.encode(), key)
    if pid := Supervisor(cloud).process("node-gate").pid:
        gateway.reload(pid)
    log.warning("this node has a new certificate")


def main() -> None:
    """Report until told to stop; what goes wrong is said once, until it changes."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    root = os.environ.get("DOZEN_ROOT")
    cloud = load(Path(root) if root else None)
    given = membership(cloud)
    if given is None:
        raise SystemExit("This machine is no node of a cloud.")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    last = ""
    while not ended.is_set():
        try:
            say(cloud, membership(cloud) or given)
            text = ""
        except (Problem, OSError) as problem:  # a full disk takes no new certificate
            text = str(problem)
        if text != last:
            log.warning(text or "the controller answers again")
        last = text
        ended.wait(EVERY)
