"""The controller's side of joining: who comes, what is given, what must be opened for it."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from itertools import count
from typing import Any

from cryptography import x509

from dozencloud import RELEASE
from dozencloud.access import administrator
from dozencloud.cloud import certificates
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, Membership, changing, members
from dozencloud.cloud.plan import Plan, Role
from dozencloud.cloud.settings import OLDEST_OVN
from dozencloud.nodes import identity, schemas, tokens
from dozencloud.nodes.controller import authority, broker, opening
from dozencloud.nodes.tokens import Reason, Refused
from dozencloud.releases import Standing, standing
from dozencloud.services import ovnseries

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
"""A host name of one part (RFC 1123), short enough for names of queues."""


@dataclass(frozen=True)
class JoinRequest:
    """What a machine says of itself when it wants to join.

    networks: its series of OVN, such as 23.03; empty where it does not say.
    """

    token: str
    name: str
    chassis: str
    csr: x509.CertificateSigningRequest
    address: str
    release: str
    networks: str

    @classmethod
    def read(cls, data: object, seen: str) -> JoinRequest:
        """From the JSON of a machine whose address the gateway saw as `seen`."""
        words = schemas.fitting(schemas.JOIN, data)
        if not NAME.fullmatch(words["name"]):
            raise Refused(
                f"{words['name'][:60]} is no name for a node.",
                "One has up to 42 of a-z, 0-9 and -: dozen join ... --name NAME",
            )
        try:
            chassis = str(uuid.UUID(words["chassis"]))
            address = str(ipaddress.IPv4Address(words["address"] or seen))
        except ValueError as error:
            raise Refused(f"The machine says something wrong of itself: {error}.") from error
        return cls(
            words["token"],
            words["name"],
            chassis,
            _signed(words["csr"]),
            address,
            words["release"],
            words.get("networks", ""),
        )


def _signed(text: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(text.encode())
        if request.is_signature_valid:
            return request
    except (ValueError, TypeError):
        pass
    raise Refused("The request for a certificate is damaged.", "Run the same command again.")


def join(cloud: Cloud, request: JoinRequest) -> dict[str, Any]:
    """Let a machine in; the same machine with the same token gets the same place again.

    Returns what `joining` keeps there. Raises Refused with the reason.
    """
    identifier, _, secret = request.token.partition(".")
    tokens.check(cloud, identifier, secret)
    wanted(request.release)
    understands(cloud, request.networks)
    key = authority.key_hash(request.csr)
    there = {member.name: member for member in members(cloud)}
    known = there.get(request.name)
    if request.name == controller_name(cloud) or (known and known.key != key):
        raise Refused(
            f"The cloud has a node called {request.name} already.",
            "Choose another name: dozen join ... --name NAME",
        )
    tokens.spend(cloud, identifier, secret, key=key, node=request.name)
    passwords = {name: secrets.token_hex(24) for name in ("broker", "identity", "report")}
    member = _seat(cloud, request, key, known, passwords["report"])
    plan = Plan.kept(cloud)
    try:
        _admit(cloud, plan, passwords, request.name)
    except Exception:
        if not known:
            # Its token is good for another try, which finds what has been done; or has, meanwhile.
            with changing(cloud, "members") as rows:
                rows[:] = [row for row in rows if row != asdict(member)]
        raise
    given = Membership(
        controller=cloud.public_url,
        node=request.name,
        number=member.number,
        address=request.address,
        broker=cloud.settings.nodes.broker,
        southbound=cloud.settings.nodes.southbound,
        mtu=plan.node.mtu,
        broker_password=passwords["broker"],
        identity_password=passwords["identity"],
        secret=passwords["report"],
    )
    return {
        "membership": asdict(given),
        "certificate": authority.sign(cloud, request.csr, request.chassis, request.address),
    }


def _seat(
    cloud: Cloud, request: JoinRequest, key: str, known: Member | None, password: str
) -> Member:
    """Put the machine on the list of nodes; one that is known keeps its number."""
    with changing(cloud, "members") as rows:
        member = Member(
            request.name,
            known.number if known else _free(rows),
            request.chassis,
            request.address,
            Role.COMPUTE,
            _hash(password),
            key,
            time.time(),
        )
        rows[:] = [row for row in rows if row["name"] != request.name] + [asdict(member)]
        rows.sort(key=lambda row: row["joined"])
    return member


def _admit(cloud: Cloud, plan: Plan, passwords: Mapping[str, str], name: str) -> None:
    """Make its accounts, and open what it needs to reach."""
    identity.grant(administrator.connect(cloud), name, passwords["identity"])
    broker.grant(cloud, name, passwords["broker"])
    if cloud.settings.nodes.migration:
        broker.permit(cloud)
    opening.apply(plan)


def _free(rows: list[dict[str, Any]]) -> int:
    taken = {row["number"] for row in rows}
    return next(number for number in count(1) if number not in taken)


def authenticated(cloud: Cloud, name: str, secret: str) -> Member:
    """The node of that name with that secret; Refused otherwise, and once it was removed."""
    for member in members(cloud):
        if member.name == name and compare_digest(member.secret, _hash(secret)):
            return member
    raise Refused(
        f"The cloud does not know the node {name[:60]}, or has shut it out.",
        "If it is to come back: `dozen leave` here, then join with a new token.",
        reason=Reason.UNKNOWN_NODE,
    )


def renew(cloud: Cloud, member: Member, csr: str) -> str:
    """A new certificate for a node, for the key of its request."""
    request = _signed(csr)
    return authority.sign(cloud, request, member.chassis, member.address)


def peer(cloud: Cloud, member: Member, csr: str) -> dict[str, str]:
    """By what a node knows the others, and a certificate for its QEMUs; if nodes trust each other.

    Both go with each change of the nodes' authority.
    """
    named = authority.peers(cloud)
    if not named:
        return {"migration": ""}
    request = _signed(csr)
    return {
        "migration": named,
        "nodes": authority.trusted(cloud).read_text(),
        "streams": certificates.pem(authority.streams(cloud).certificate).decode(),
        "certificate": authority.sign_streams(cloud, request, member.address),
    }


def wanted(release: str) -> None:
    """Refused where a node of that release does not work with this controller."""
    found = standing(release)
    if found.fits:
        return
    what = f"The node has release {release[:20]} of DozenCloud, the controller {RELEASE}."
    if found is Standing.NEWER:
        mend = "On the controller first: git pull && sudo ./dozen upgrade"
    else:
        mend = "That is too old. On the node: git pull, then run the same command again."
    raise Refused(what, mend)


def understands(cloud: Cloud, node: str) -> None:
    """Refused where a machine with that series of OVN cannot read this controller's networks."""
    ours = ovnseries.written(cloud)
    if ovnseries.reads(node, ours):
        return
    older = ovnseries.reads(node, OLDEST_OVN)
    raise Refused(
        f"The OVN of this machine ({node}) is older than the controller's ({ours}), and servers"
        " here would have no network.",
        f'On the controller, set ovn = "{OLDEST_OVN}" under [nodes] in {cloud.file} and run:'
        f" {cloud.command('up')}. Then run the same command here again."
        if older
        else "Install a newer Debian or Ubuntu on this machine.",
    )


def controller_name(cloud: Cloud) -> str:
    return Plan.kept(cloud).node.name


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
