"""How many transfers of images a user has at a time, and how slow they may be."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from dozencloud.hooks.transfers import GRACE, RATE, TOO_MANY, TOO_SLOW, Application, Turns, bounded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def glance(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """As Glance does: the token first, then the body, and any fault becomes its own answer."""
    if environ.pop("token") != "good":
        start_response("401 Unauthorized", [])
        return [b"no"]
    environ["HTTP_X_USER_ID"] = environ.pop("user")
    try:
        while environ["wsgi.input"].read(10):
            pass
    except Exception:
        start_response("500 Fault", [])
        return [b"fault"]
    start_response("200 OK", [("X", "y")])
    return iter([b"a", b"b"])


class Client:
    def __init__(self, application: Application) -> None:
        self.application = application
        self.status = ""

    def ask(self, user: str, body: Any = b"", valid: bool = True) -> Any:
        environ = {
            # What the client says of itself; Glance's check overwrites it.
            "HTTP_X_USER_ID": "somebody else",
            "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
            "token": "good" if valid else "bad",
            "user": user,
        }
        return self.application(environ, self._started)

    def _started(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = status


@pytest.fixture
def turns() -> Turns:
    return Turns(2)


@pytest.fixture
def client(turns: Turns) -> Client:
    return Client(bounded(glance, turns, Clock()))


def said(answer: Iterable[bytes]) -> str:
    return str(json.loads(b"".join(answer))["error"]["message"])


def test_a_user_has_so_many_and_others_have_theirs(client: Client) -> None:
    first, second = client.ask("ann"), client.ask("ann")
    assert client.status == "200 OK"
    assert said(client.ask("ann")) == TOO_MANY
    assert client.status == "429 Too Many Requests"
    client.ask("bob").close()
    assert client.status == "200 OK"
    assert b"".join(first) == b"ab"
    first.close()
    client.ask("ann").close()
    assert client.status == "200 OK"
    second.close()


def test_uploads_count_before_their_body_is_read(turns: Turns, client: Client) -> None:
    assert turns.take("ann")
    assert turns.take("ann")
    assert said(client.ask("ann", b"x" * 100)) == TOO_MANY


def test_who_has_no_token_counts_for_nobody_and_is_not_read(turns: Turns, client: Client) -> None:
    body = io.BytesIO(b"x" * 100)
    client.ask("ann", body, valid=False)
    assert client.status == "401 Unauthorized"
    assert body.tell() == 0
    assert not turns._count


def test_all_is_given_back(turns: Turns, client: Client) -> None:
    for _ in range(5):
        client.ask("ann", b"x" * 50).close()
    assert not turns._count


def test_an_application_that_breaks_gives_back(turns: Turns) -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["HTTP_X_USER_ID"] = "ann"
        environ["wsgi.input"].read()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Client(bounded(broken, turns)).ask("ann")
    assert not turns._count


@pytest.mark.parametrize(("seconds", "status"), [(GRACE - 1, "200 OK"), (GRACE + 1, "408 Request")])
def test_a_trickle_ends_after_a_while(turns: Turns, seconds: float, status: str) -> None:
    clock = Clock()

    class Trickle(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            clock.now = seconds
            return super().read(*size)

    client = Client(bounded(glance, turns, clock))
    answer = client.ask("ann", Trickle(b"x" * 100))
    assert client.status.startswith(status)
    if status.startswith("408"):
        assert said(answer) == TOO_SLOW
        assert not turns._count


def test_a_long_upload_at_its_rate_goes_on(turns: Turns) -> None:
    clock = Clock()

    class Steady(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            clock.now += 9 / RATE
            return super().read(10)

    client = Client(bounded(glance, turns, clock))
    client.ask("ann", Steady(b"x" * int(RATE * (GRACE + 5)))).close()
    assert client.status == "200 OK"
