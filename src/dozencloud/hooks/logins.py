"""Logins at Keystone: a failure takes as long whatever was wrong, and guessers wait behind others.

Upstream checks a password only where there is one: a name that does not exist, a user, project or
domain that is disabled or unknown, is refused a fifth of a second sooner
(keystone/auth/plugins/core.py), and so is a user whose hash is cheap. Each wrong password is
written into the database besides (keystone/identity/backends/sql.py, _record_failed_auth), for a
lock that anybody can put on anybody. And an application credential that does not exist is a fault
(IndexError) or a 404, according to whether the user exists. A password that is too long for the
hash is a fault, too (ValueError), or a 403.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any

from keystone import exception
from keystone.api._shared import authentication
from keystone.common import password_hashing
from keystone.common.password_hashers.bcrypt import Bcrypt
from keystone.identity.backends.sql import Identity

from dozencloud.hooks.turnstile import Full, Turnstile

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CHEAP = 8
"""Rounds of bcrypt below which a check costs no time (each one more doubles it; users' have 12)."""
BCRYPT = 72
"""Bytes of a password that bcrypt looks at."""
WAITING = 100
"""Logins that wait; a class that logs in at once is less."""
REFUSALS = ("401", "403", "404")
TOO_MANY = (
    "Too many logins wait, and others failed less often from your address. "
    "Try again in a few seconds."
)

_check = password_hashing.check_password
_authenticate = authentication.authenticate_for_token
_here = threading.local()


def rounds(hashed: str | None) -> int:
    """Of bcrypt; 0 where it is another kind of hash."""
    parts = (hashed or "").split("$")
    return int(parts[2]) if len(parts) == 4 and parts[1][:1] == "2" and parts[2].isdigit() else 0


def check_password(password: Any, hashed: Any) -> bool:
    """Upstream's, and a note that the time of a user's password was spent.

    A hash of bcrypt alone, which is an old one, is of a password's first bytes. A password that is
    longer than any may be is a wrong one.
    """
    if password is None or hashed is None:
        return False
    cost = rounds(hashed)
    try:
        if cost and len(begin := password.encode()) > BCRYPT:
            right = bool(Bcrypt.verify(begin[:BCRYPT], hashed))
        else:
            right = bool(_check(password, hashed))
    except exception.PasswordVerificationError:
        return False
    if not 0 < cost < CHEAP:
        _here.spent = True
    return right


def _record_failed_auth(self: Any, user_id: str) -> None:
    """Nothing: nobody is locked, and the time would tell that the user exists."""


def authenticate_for_token(auth: Any = None) -> Any:
    """Upstream's; whoever or whatever does not exist is a failed login like others."""
    try:
        return _authenticate(auth)
    except (exception.NotFound, IndexError) as error:
        raise exception.Unauthorized(error) from error


def use() -> None:
    """Put all of these in upstream's place."""
    password_hashing.check_password = check_password
    Identity._record_failed_auth = _record_failed_auth
    authentication.authenticate_for_token = authenticate_for_token


class Guarded:
    """Keystone, on the socket for logins.

    The gateway names the client (X-Forwarded-For) of requests from outside. Services log in from
    inside, at their own pace: their hashes are cheap.
    """

    def __init__(self, application: Application, turnstile: Turnstile | None = None) -> None:
        cpus = len(os.sched_getaffinity(0))
        self._application = application
        self._turnstile = turnstile or Turnstile(max(2, cpus), max(1, cpus // 2), WAITING)
        self._decoy = password_hashing.hash_password(secrets.token_hex(16))

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(body)
        address = environ.get("HTTP_X_FORWARDED_FOR", "")
        name = subject(body) or environ.get("PATH_INFO", "")
        if not address:
            return self._answer(environ, start_response)[1]
        try:
            with self._turnstile.turn(address, name):
                status, answer = self._answer(environ, start_response)
        except Full:
            return refuse(start_response)
        if status.startswith("401"):
            self._turnstile.failed(address, name)
        return answer

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> tuple[str, Iterable[bytes]]:
        _here.spent = False
        said: list[Any] = []
        answer = self._application(environ, lambda *words: said.append(words))
        status = str(said[-1][0])
        if status.startswith(REFUSALS) and not _here.spent:
            _check("wrong", self._decoy)
        start_response(*said[-1])
        return status, answer


def subject(body: bytes) -> str:
    """Stands for who wants to log in, as far as the request says: what a guesser guesses at."""
    try:
        identity = json.loads(body)["auth"]["identity"]
        said = []
        for method in ("password", "application_credential"):
            given = identity.get(method) or {}
            user = given.get("user") or {}
            said += [user.get("id"), user.get("name"), given.get("id"), given.get("name")]
        return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def refuse(start_response: Callable[..., Any]) -> list[bytes]:
    error = {"code": 429, "title": "Too Many Requests", "message": TOO_MANY}
    answer = json.dumps({"error": error}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(answer))),
        ("Retry-After", "5"),
    ]
    start_response("429 Too Many Requests", headers)
    return [answer]
