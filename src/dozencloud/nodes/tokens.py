"""Tokens by which machines join: single-use, ending, revocable; kept as hashes only."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from cryptography import x509

from dozencloud.cloud import certificates
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import changing
from dozencloud.cloud.plan import Role
from dozencloud.errors import Exit, Problem
from dozencloud.releases import known

FORM = re.compile(r"dz1\.([0-9a-f]{64})\.([0-9a-f]{8})\.([0-9a-f]{48})")
LIFETIME = re.compile(r"([1-9]\d{0,4})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 30 * SECONDS["d"]


@dataclass(frozen=True)
class Token:
    """What a machine holds. authority: fingerprint of the cloud's CA, by which it knows the cloud.

    Its text is `dz1.AUTHORITY.ID.SECRET`, all in hex: 256, 32 and 192 bits.
    """

    authority: str
    id: str
    secret: str

    def __str__(self) -> str:
        return f"dz1.{self.authority}.{self.id}.{self.secret}"

    @classmethod
    def parse(cls, text: str) -> Token:
        found = FORM.fullmatch(text.strip())
        if not found:
            raise Problem(
                "This is not a token of DozenCloud; one begins with dz1. and has three more parts.",
                "Copy the whole line that `dozen node token` printed on the controller.",
                code=Exit.USAGE,
            )
        return cls(*found.groups())


@dataclass(frozen=True)
class Kept:
    """What the controller knows of a token.

    hash: SHA-256 of its secret, in hex.   made, ends: seconds since the epoch.
    name: the only node that may use it; empty: any.
    key: of the machine that used it (`Member.key`); empty: unused.
    """

    id: str
    hash: str
    made: float
    ends: float
    role: str
    name: str
    key: str = ""
    node: str = ""


class Reason(StrEnum):
    """Why the controller refuses, where a node acts on it; goes over the wire."""

    OTHER = ""
    UNKNOWN_NODE = "unknown-node"


class Refused(Problem):
    """The controller does not take this machine, or not what it asks."""

    def __init__(self, what: str, mend: str = "", *, reason: Reason = Reason.OTHER) -> None:
        super().__init__(what, mend)
        self.reason = reason


def seconds(text: str) -> int:
    """A time such as 30m or 2d in seconds; Problem (USAGE) where it is none, or over 30 days."""
    found = LIFETIME.fullmatch(text)
    number = int(found[1]) * SECONDS[found[2]] if found else 0
    if not 0 < number <= LONGEST:
        raise Problem(
            f"{text} is not a time from 1s to 30d.",
            "Say a number and s, m, h or d: --ttl 1h",
            code=Exit.USAGE,
        )
    return number


def make(cloud: Cloud, *, lifetime: int, role: Role = Role.COMPUTE, name: str = "") -> Token:
    """A new token, good for `lifetime` seconds."""
    authority = certificates.fingerprint(x509.load_pem_x509_certificate(cloud.ca.read_bytes()))
    token = Token(authority, secrets.token_hex(4), secrets.token_hex(24))
    now = time.time()
    with changing(cloud, "tokens") as rows:
        rows[:] = [row for row in rows if row["ends"] > now]
        kept = Kept(token.id, _hash(token.secret), now, now + lifetime, str(role), name)
        rows.append(asdict(kept))
    return token


def all_kept(cloud: Cloud) -> list[Kept]:
    """Those that have not ended, the oldest first."""
    now = time.time()
    with changing(cloud, "tokens") as rows:
        return [known(Kept, row) for row in rows if row["ends"] > now]


def revoke(cloud: Cloud, identifier: str) -> None:
    """Forget a token; Problem if there is none of that id."""
    with changing(cloud, "tokens") as rows:
        left = [row for row in rows if row["id"] != identifier]
        if len(left) == len(rows):
            raise Problem(f"There is no token {identifier}.", "See: dozen node tokens")
        rows[:] = left


def check(cloud: Cloud, identifier: str, secret: str) -> None:
    """Raise Refused on a token that is unknown or has ended; who has none hears nothing else."""
    with changing(cloud, "tokens") as rows:
        _row(rows, identifier, secret)


def spend(cloud: Cloud, identifier: str, secret: str, *, key: str, node: str) -> Kept:
    """Bind the token to this machine's key; the same machine may come again until it ends.

    Raises Refused on a token that is unknown, has ended, or is another machine's.
    """
    with changing(cloud, "tokens") as rows:
        row = _row(rows, identifier, secret)
        if row["key"] not in ("", key):
            raise Refused(
                f"This token was used by the node {row['node']} already.",
                "Each machine needs its own. On the controller: sudo ./dozen node token",
            )
        if row["name"] not in ("", node):
            raise Refused(
                f"This token is for a node called {row['name']}, and this machine is {node}.",
                f"Join with --name {row['name']}, or make another token.",
            )
        row["key"], row["node"] = key, node
        return known(Kept, row)


def _row(rows: list[dict[str, Any]], identifier: str, secret: str) -> dict[str, Any]:
    row = next((row for row in rows if row["id"] == identifier), None)
    if row is None or not compare_digest(row["hash"], _hash(secret)):
        raise Refused(
            "The controller does not know this token, or it was revoked.",
            "Make a new one on the controller: sudo ./dozen node token",
        )
    if row["ends"] < time.time():
        raise Refused(
            "This token has ended.",
            "Make a new one on the controller: sudo ./dozen node token",
        )
    return row


def _hash(secret: str) -> str:
    # 192 random bits: nothing to guess, so no slow hash.
    return sha256(secret.encode()).hexdigest()
