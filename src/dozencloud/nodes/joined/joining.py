"""A machine's side of joining: it looks at the controller and itself, asks, keeps the answer."""

from __future__ import annotations

import json
import shutil
import socket
import time
import uuid
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dozencloud import RELEASE
from dozencloud.cloud import certificates, folders, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Membership, keep, membership
from dozencloud.cloud.settings import template
from dozencloud.errors import Exit, Problem
from dozencloud.facts import Facts
from dozencloud.host.network import namespace
from dozencloud.nodes.joined.client import Controller, meet
from dozencloud.nodes.tokens import Refused, Token
from dozencloud.private import write_private
from dozencloud.releases import known
from dozencloud.services import ovnseries
from dozencloud.supervision.service import GROUP

MOST_OFF = 300.0
"""s that the clocks may differ: certificates and Keystone's tokens have times in them."""


def enrol(cloud: Cloud, url: str, token: Token, *, name: str = "", address: str = "") -> Membership:
    """Become a node of the cloud at `url`; what it gave lies in files then.

    The same command again goes on where it was cut off. Refused by the controller, nothing is left
    of a machine that was none before. address: by default as the controller sees it.
    """
    given = membership(cloud)
    if given:
        return _again(cloud, given, url)
    if cloud.secrets_file.exists():
        raise Problem(
            f"This machine has a cloud of its own{_under(cloud)}.",
            f"A machine is in one cloud only. To give it up: {cloud.command('destroy')}",
            code=Exit.UNFIT,
        )
    authority, clock = meet(url, token)
    off = time.time() - clock
    if abs(off) > MOST_OFF:
        raise Problem(
            f"This machine's clock is {span(off)} the controller's.",
            f"Run this, then the same command again: {set_clock(off)}",
            code=Exit.UNFIT,
        )
    before = cloud.exists
    try:
        chosen, chassis = _identity(cloud, name or socket.gethostname().partition(".")[0].lower())
        write_private(cloud.ca, authority, 0o644)
        request = _request(cloud, chassis)
        answer = Controller(url, cloud.ca).join(
            {
                "token": f"{token.id}.{token.secret}",
                "name": chosen,
                "chassis": chassis,
                "csr": request,
                # Seen from outside, one with a namespace of its own is the machine around it.
                "address": address or (cloud.link[1] if cloud.root else ""),
                "release": RELEASE,
                "networks": ovnseries.coming(),
            }
        )
        given = known(Membership, answer["membership"])
        write_private(tls.folder(cloud) / "node.crt", answer["certificate"])
        keep(cloud, given)
    except Refused:
        if not before:
            _forget(cloud)
        raise
    return given


def wires_fit(given: Membership) -> None:
    """Problem where packets between servers on different nodes would be lost here."""
    here = namespace.mtu_of(given.address)
    if here < given.mtu:
        raise Problem(
            f"The network card with {given.address} sends packets of at most {here} bytes, the"
            f" controller's {given.mtu}; servers' larger ones would be lost.",
            f"Set the card's MTU to {given.mtu}, then run the same command again.",
            code=Exit.UNFIT,
        )


def _again(cloud: Cloud, given: Membership, url: str) -> Membership:
    if given.controller != url:
        raise Problem(
            f"This machine is a node of the cloud at {given.controller} already.",
            f"To take it out of that one first: {cloud.command('leave')}",
            code=Exit.UNFIT,
        )
    return given


def _under(cloud: Cloud) -> str:
    return f" under {cloud.root}" if cloud.root else ""


def span(seconds: float) -> str:
    """`3 hours behind`, `2 days ahead of`."""
    units = (("days", 86400), ("hours", 3600), ("minutes", 60))
    name, length = next((u for u in units if abs(seconds) >= 2 * u[1]), units[-1])
    return f"{abs(seconds) / length:.0f} {name} {'ahead of' if seconds > 0 else 'behind'}"


def set_clock(off: float) -> str:
    """The command that sets right a clock which is so many seconds ahead; needs no systemd."""
    return f"sudo date -s '{-off:+.0f} seconds'"


def _identity(cloud: Cloud, name: str) -> tuple[str, str]:
    """(name, chassis) of this machine; the chassis stays over tries that were refused."""
    folders.make_folders(cloud, GROUP)
    if not cloud.file.exists():
        write_private(cloud.file, template(cloud.settings), 0o644)
    path = cloud.lib / "node.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept = {**kept, "name": name, "chassis": kept.get("chassis") or str(uuid.uuid4())}
    write_private(path, json.dumps(kept) + "\n")
    tls.make_folder(cloud)
    return kept["name"], kept["chassis"]


def request(key: ec.EllipticCurvePrivateKey, chassis: str) -> str:
    """A request for a certificate, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, chassis)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _request(cloud: Cloud, chassis: str) -> str:
    """For the key that lies here, by which the controller knows this machine again."""
    path = tls.folder(cloud) / "node.key"
    if not path.exists():
        certificates.save_key(path, ec.generate_private_key(ec.SECP256R1()))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} is not an EC key")
    return request(key, chassis)


def _forget(cloud: Cloud) -> None:
    """Remove what a refused try made."""
    for folder in cloud.folders:
        shutil.rmtree(folder, ignore_errors=True)
    if cloud.root:
        with suppress(OSError):
            cloud.root.rmdir()


def abilities(found: Facts) -> list[str]:
    """What kinds of servers this machine will run, a line each, for people."""
    arm = found.system.architecture.arm
    if not (found.kvm.for_servers and arm):
        reason = "this is no ARM machine" if not arm else f"no KVM: {found.kvm.reason}"
        return [f"ARM servers emulated, many times slower than with KVM ({reason})"]
    if found.kvm.aarch32_el1:
        return ["64-bit and 32-bit ARM servers with KVM"]
    return [
        "64-bit ARM servers with KVM",
        "32-bit ARM servers emulated (this processor's KVM has no 32-bit guests)",
    ]
