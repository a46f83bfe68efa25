"""Logins at Keystone: what a failure costs, and who is meant by a request."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
from keystone.common import password_hashing
from keystone.common.password_hashers.bcrypt import Bcrypt
from keystone.conf import default, identity
from keystone.exception import PasswordVerificationError
from oslo_config.cfg import ConfigOpts
from plans_kit import make_plan

from dozencloud.hooks import logins
from dozencloud.hooks.turnstile import Turnstile
from dozencloud.services.keystone import describe as keystone_service

CHEAP = "$2b$04$" + "a" * 53
USUAL = "$2b$12$" + "a" * 53


class Keystone:
    """Answers as it is told, and checks the hash that it is told."""

    def __init__(self, status: str, hashed: str | None) -> None:
        self.status, self.hashed = status, hashed
        self.read = b""

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.read = environ["wsgi.input"].read()
        if self.hashed:
            logins.check_password("wrong", self.hashed)
        start_response(self.status, [])
        return [b"answer"]


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What passwords were compared with."""
    seen: list[str] = []
    monkeypatch.setattr(logins, "_check", lambda password, hashed: seen.append(hashed))
    monkeypatch.setattr(password_hashing, "hash_password", lambda password: "decoy")
    return seen


def ask(keystone: Keystone, turnstile: Turnstile, address: str = "a") -> list[str]:
    said: list[str] = []
    body = b'{"auth": {"identity": {"password": {"user": {"name": "ann"}}}}}'
    environ = {"wsgi.input": io.BytesIO(body), "HTTP_X_FORWARDED_FOR": address}
    logins.Guarded(keystone, turnstile)(environ, lambda status, headers: said.append(status))
    assert keystone.read == body
    return said


@pytest.mark.parametrize(
    ("status", "hashed", "compared"),
    [
        ("401 UNAUTHORIZED", None, ["decoy"]),  # no such user, project or domain; disabled
        ("404 NOT FOUND", None, ["decoy"]),
        ("401 UNAUTHORIZED", USUAL, [USUAL]),
        ("401 UNAUTHORIZED", CHEAP, [CHEAP, "decoy"]),  # a service's
        ("201 CREATED", CHEAP, [CHEAP]),
        ("201 CREATED", None, []),  # by a token
        ("400 BAD REQUEST", None, []),
    ],
)
def test_every_failure_costs_one_usual_hash(
    hashes: list[str], status: str, hashed: str | None, compared: list[str]
) -> None:
    assert ask(Keystone(status, hashed), Turnstile(1, 1, 1)) == [status]
    assert hashes == compared


def test_only_failures_are_remembered(hashes: list[str]) -> None:
    turnstile = Turnstile(1, 1, 1)
    ask(Keystone("201 CREATED", USUAL), turnstile)
    assert turnstile._failures.of("a") == 0
    ask(Keystone("401 UNAUTHORIZED", USUAL), turnstile)
    assert turnstile._failures.of("a") == pytest.approx(1, abs=0.1)


def test_when_all_places_are_taken_the_answer_says_what_to_do(hashes: list[str]) -> None:
    said: list[Any] = []
    turnstile = Turnstile(1, 1, 0)
    with turnstile.turn("b", "x"):
        environ = {"wsgi.input": io.BytesIO(b""), "HTTP_X_FORWARDED_FOR": "a"}
        keystone = Keystone("201 CREATED", USUAL)
        answer = logins.Guarded(keystone, turnstile)(environ, lambda *words: said.append(words))
    (status, headers) = said[0]
    assert status == "429 Too Many Requests"
    assert dict(headers)["Retry-After"] == "5"
    assert json.loads(b"".join(answer))["error"]["message"] == logins.TOO_MANY
    # Services, from inside, wait for nobody.
    with turnstile.turn("b", "x"):
        assert ask(keystone, turnstile, "") == ["201 CREATED"]


def request(**user: Any) -> bytes:
    return json.dumps({"auth": {"identity": {"password": {"user": user}}}}).encode()


def test_the_subject_is_the_user_whatever_the_password_is() -> None:
    ann = logins.subject(request(name="ann", password="1"))
    assert ann
    assert logins.subject(request(name="ann", password="2", domain={"id": "default"})) == ann
    assert logins.subject(request(name="bob", password="1")) != ann
    assert logins.subject(request(id="ann", password="1")) != ann


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b"\xff", b"7", b"[" * 100_000, b'{"auth": {"identity": [1]}}'),
        b'{"auth": {"identity": {"password": {"user": [1]}}}}',
        b'{"auth": {"identity": {"password": "x"}}}',
    ],
)
def test_odd_bodies_have_no_subject(body: bytes) -> None:
    assert logins.subject(body) == ""


@pytest.mark.parametrize(
    ("hashed", "rounds"),
    [(USUAL, 12), (CHEAP, 4), ("$bcrypt-sha256$v=2,t=2b,r=12$salt$digest", 0), (None, 0), ("", 0)],
)
def test_rounds(hashed: str | None, rounds: int) -> None:
    assert logins.rounds(hashed) == rounds


# ---- long passwords, with Keystone's own hashes -------------------------------------------

LONG = "a" * 90


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keystone, as a cloud configures it; not the options that all of OpenStack shares here."""
    (file,) = (f for f in keystone_service(make_plan(tmp_path)).files if f.path.suffix == ".conf")
    parsed = RawConfigParser()
    parsed.read_string(file.content)
    file_of = tmp_path / "keystone.conf"
    with file_of.open("w") as out:
        for name in {"DEFAULT", "identity"} & {"DEFAULT", *parsed.sections()}:
            out.write(f"[{name}]\n")
            out.writelines(f"{key} = {value}\n" for key, value in parsed[name].items())
    options = ConfigOpts()
    for part in (default, identity):
        part.register_opts(options)
    options([], project="keystone", default_config_files=[str(file_of)])
    monkeypatch.setattr(password_hashing, "CONF", options)


def test_every_letter_of_a_long_password_counts(configured: None) -> None:
    """Also those of an application credential's secret, which has 86 bytes."""
    hashed = password_hashing.hash_password(LONG)
    assert logins.check_password(LONG, hashed)
    assert not logins.check_password(LONG[:-1] + "b", hashed)


def test_nothing_is_said_of_truncating(configured: None, caplog: pytest.LogCaptureFixture) -> None:
    hashed = password_hashing.hash_password("short")
    assert logins.check_password("short", hashed)
    assert not caplog.records


def test_an_old_hash_is_of_the_first_bytes(configured: None) -> None:
    hashed = Bcrypt.hash(LONG.encode()[:72], rounds=4)
    assert logins.check_password(LONG, hashed)
    assert not logins.check_password("b" + LONG[1:], hashed)


def test_a_password_beyond_all_limits_cannot_be_set_and_is_wrong(configured: None) -> None:
    with pytest.raises(PasswordVerificationError, match="4096"):
        password_hashing.hash_password("a" * 4097)
    logins._here.spent = False
    assert not logins.check_password("a" * 4097, USUAL.replace("$2b$12$", "$bcrypt-sha256$v=2,"))
    assert not logins._here.spent  # so the decoy's time will be
