"""Requests that no service needs to see, and errors that no user needs to."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import pytest

from dozencloud.supervision import guard

NUMBER = str(1 << 63)


def ask(
    application: Any, body: bytes = b"", prefix: str = "/network", **more: str
) -> tuple[str, bytes, dict[str, str]]:
    said: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        said[:] = [status, dict(headers)]

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v2.0/networks",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **more,
    }
    answer = b"".join(guard.guarded(application, prefix)(environ, start))
    return said[0], answer, said[1]


def echo(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [])
    return [environ["wsgi.input"].read()]


BAD = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "closed": b"[" * 70 + b"]" * 70,
    "surrogate": b'{"network": {"name": "\\ud800"}}',
    "surrogate as bytes": b'{"name": "\xed\xa0\x80"}',
    "surrogate as name": b'{"\\udfff": 1}',
    "NUL": b'{"name": "a\\u0000b"}',
    "emoji": '{"name": "\U0001f600"}'.encode(),
    "emoji as escape": b'{"name": "\\ud83d\\ude00"}',
    "not UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "not JSON": b'{"a": ',
    "large": f'{{"mtu": {NUMBER}}}'.encode(),
    "huge": b'{"mtu": ' + b"9" * 100_000 + b"}",
    "NaN": b'{"mtu": NaN}',
    "infinity": b'{"mtu": 1e999}',
    "long": b'"' + b"x" * guard.LARGEST_BODY + b'"',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_body_that_makes_no_sense_is_refused(body: bytes) -> None:
    status, answer, headers = ask(echo, body)
    assert status == "400 Bad Request"
    assert headers["Content-Length"] == str(len(answer))
    sentence = json.loads(answer)["error"]["message"]
    assert sentence.endswith(".")


GOOD = [
    b"",
    b'{"network": {"name": "M\xc3\xbcnchen \xe2\x82\xac", "mtu": 1500, "deep": [[[{"a": null}]]]}}',
    b"a=b&c=d",
    b'{"user": {"password": "\\ud83d\\ude00"}}',
    json.dumps({"n": (1 << 63) - 1, "m": -(1 << 63), "f": 1e300}).encode(),
    b"[" * 60 + b"]" * 60,
]


@pytest.mark.parametrize("body", GOOD)
def test_every_other_body_reaches_the_service_as_it_is(body: bytes) -> None:
    assert ask(echo, body)[:2] == ("200 OK", body)


def test_image_data_is_not_read_here() -> None:
    for name in ("file", "stage"):
        path = f"/v2/images/some-id/{name}"
        status, answer, _ = ask(echo, b"[" * 100_000, "/image", PATH_INFO=path)
        assert (status, len(answer)) == ("200 OK", 100_000)
    assert (
        ask(echo, b"[" * 100_000, "/image", PATH_INFO="/v2/images/some-id/import")[0][:3] == "400"
    )


@pytest.mark.parametrize(
    "query", ["name=%00", "name=%ff", "%ff=1", "name=%F0%9F%98%80", f"limit={NUMBER}"]
)
def test_a_query_that_makes_no_sense_is_refused(query: str) -> None:
    assert ask(echo, QUERY_STRING=query)[0] == "400 Bad Request"


def test_a_path_that_makes_no_sense_is_refused() -> None:
    for path in ("/v2.0/networks/a\0b", "/v2.0/networks/\xff", "/v2.0/\xf0\x9f\x98\x80"):
        assert ask(echo, PATH_INFO=path)[0] == "400 Bad Request"
    assert ask(echo, PATH_INFO="/v2.0/M\xc3\xbcnchen")[0] == "200 OK"


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("web", True),
        ("web-1.example.org", True),
        ("^web.*$", True),
        ("^(web)", False),
        ("web|db", True),
        ("[abc]+-[0-9]{1,3}", True),
        (r"10\.0\.0\.1", True),
        ("2026-01-01T00:00:00+00:00", True),
        ("fd00::1", True),
        ("my server", True),
        ("M\u00fcnchen", True),
        ("a{1,99999}", False),
        ("a{99999}", False),
        ("(a+)+$", False),
        ("a*a*a*a*a*a*b", False),
        ("[", False),
        ("*", False),
        ("(?<", False),
        ("[[:", False),
        ("\\", False),
        ("a" * 300, False),
    ],
)
def test_expressions_for_the_database_are_plain_ones(value: str, taken: bool) -> None:
    query = f"name={quote(value)}"
    answer = ask(echo, prefix="/compute", PATH_INFO="/v2.1/servers/detail", QUERY_STRING=query)
    assert (answer[0] == "200 OK") is taken
    # Elsewhere it is text.
    assert ask(echo, QUERY_STRING=query)[0] == "200 OK"


@pytest.mark.parametrize(
    ("value", "sought"),
    [
        ("x (1)", r"x \(1\)"),
        ("x)(", r"x\)\("),
        ("web", "web"),
        ("^web.*$", "^web.*$"),
        (r"x \(1\)", r"x \(1\)"),
        ("M\u00fcnchen & Umgebung (2)", "M\u00fcnchen & Umgebung \\(2\\)"),
    ],
)
def test_a_server_is_found_by_a_name_with_parentheses(value: str, sought: str) -> None:
    queries: list[str] = []

    def look(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        queries.append(environ["QUERY_STRING"])
        return echo(environ, start)

    query = urlencode({"limit": 1, "name": value, "ip": "10"})
    answer = ask(look, prefix="/compute", PATH_INFO="/v2.1/servers/detail", QUERY_STRING=query)
    assert answer[0] == "200 OK"
    assert parse_qs(queries[0]) == {"limit": ["1"], "name": [sought], "ip": ["10"]}


# ---- what is told of errors ---------------------------------------------------------------


def test_an_exception_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    def broken(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        raise ZeroDivisionError("in /etc/dozencloud/secrets.json")

    status, answer, _ = ask(broken, b"{}")
    assert status == "500 Internal Server Error"
    assert b"secrets" not in answer
    assert "ZeroDivisionError" in caplog.text


def test_the_clients_error_becomes_one() -> None:
    def broken(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        raise type("DBDataError", (Exception,), {})("1264")

    assert ask(broken, b"{}")[0] == "400 Bad Request"


def test_paths_are_not_told() -> None:
    def failed(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = b'{"message": "cannot open /var/lib/dozencloud/x/y.part: see /v2/images/1"}'
        start("409 Conflict", [("Content-Length", str(len(body)))])
        return [body]

    status, answer, headers = ask(failed)
    assert status == "409 Conflict"
    assert b"/var" not in answer
    assert b"/v2/images/1" in answer
    assert headers["Content-Length"] == str(len(answer))


def test_an_answer_may_begin_with_its_first_piece() -> None:
    def late(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [])
        yield b"a /etc/dozencloud/x"
        yield b"b"

    assert ask(late)[:2] == ("200 OK", b"a /etc/dozencloud/xb")
