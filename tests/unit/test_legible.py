"""Words of others on a terminal and in a log."""

from __future__ import annotations

import logging
import os
import pty
import tempfile
import unicodedata
from pathlib import Path

import pytest

import dozencloud
from dozencloud import legible
from dozencloud.access.openstackclient import guarded

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
FERNET = "gAAAAABn" + "Q_-x9" * 30


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("web-1", "web-1"),
        ("Größe, 服务器, سيرفر", "Größe, 服务器, سيرفر"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x1b[2Jx\x7f", "\\x1b[2Jx\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nERROR b\tc", "a\\r\\nERROR b\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\u200dc\ufeff", "a\\u2028b\\u200dc\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_line(said: str, shown: str) -> None:
    assert legible.line(said) == shown
    assert legible.line(shown) == shown


def test_every_character_that_is_not_printed_is_shown() -> None:
    unseen = [c for c in map(chr, range(0x3000)) if not c.isprintable() and not c.isspace()]
    unseen = [c for c in unseen if legible.line(c) == c]
    # What has no meaning yet, or is part of a script, gives no orders.
    assert {unicodedata.category(c) for c in unseen} <= {"Cn", "Cf"}
    assert [c for c in unseen if unicodedata.bidirectional(c) not in ("", "AN", "AL", "NSM")] == []


def test_a_text_keeps_its_own_line_ends() -> None:
    assert legible.text("a\r\nb\n\tc\x1b[m\rd") == "a\r\nb\n\tc\\x1b[m\\rd"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"GET /console/serial/socket?token={UUID} HTTP/1.1", "token=*** HTTP/1.1"),
        (f"GET /console/vnc/socket?path=%3Ftoken%3D{UUID} HTTP", "token%3D*** HTTP"),
        (f"ConsoleAuthToken(host='a',token='{UUID}',x=1)", "token='***',x=1)"),
        ("Token(internal_access_path='0f0f',port=1)", "internal_access_path='***',port=1)"),
        (f"The token '{UUID}' is invalid or has expired", "token '***' is invalid or has expired"),
        (f"{{'token': '{UUID}', 'a': 1}}", "{'token': '***', 'a': 1}"),
        ("X-Auth-Token: abc, b", "X-Auth-Token: ***, b"),
        ("-H 'X-Service-Token: abc'", "X-Service-Token: ***'"),
        (f"wrong: {FERNET}==; next", "wrong: ***; next"),
        ("'adminPass': 'x y', 'b'", "'adminPass': '***', 'b'"),
        ('"password": "hunter2"', '"password": "***"'),
        ("mysql+pymysql://nova:0f0f@localhost/nova", "mysql+pymysql://nova:***@localhost/nova"),
    ],
)
def test_a_log_holds_no_secret(said: str, shown: str) -> None:
    found = legible.log_lines(f"{said}\n".encode()).decode()
    assert shown in found
    assert not [secret for secret in (UUID, FERNET, "hunter2", "0f0f", "abc") if secret in found]


@pytest.mark.parametrize(
    "said",
    [
        f"instance {UUID} is active",
        "https://10.0.0.1:443/identity/v3",
        "Keystone made a token for nova.",
        "http://[::1]:80/a@b",
    ],
)
def test_the_rest_of_a_log_stays(said: str) -> None:
    assert legible.log_lines(f"{said}\n".encode()).decode() == f"{said}\n"


def test_bytes_of_no_encoding_are_shown_in_a_log() -> None:
    assert legible.log_lines(b"a\x9b2Jb\x1bc\n") == b"a\\x9b2Jb\\x1bc\n"


def test_a_message_is_one_line() -> None:
    record = legible.Record("n", logging.INFO, "f", 1, "no %s", ("x\r\n2026 FORGED",), None)
    assert record.getMessage() == "no x\\r\\n2026 FORGED"


def test_commands_show_text_in_one_way_only() -> None:
    """Whatever prints past `say` could print names as they are."""
    folder = Path(dozencloud.__file__).parent / "cli"
    ways = ("click.echo(", "click.secho(", "print(", "sys.stdout", "sys.stderr")
    found = {
        (path.name, way)
        for path in folder.glob("*.py")
        for way in ways
        if way in path.read_text().replace("console.print(", "").replace("wide.print(", "")
    }
    # rich's consoles print tables, whose cells `add_row` has seen; the entry point flushes.
    allowed = {("common.py", "click.echo("), ("node.py", "print("), ("__init__.py", "sys.stdout")}
    assert found <= allowed, found


def test_the_client_is_guarded_on_a_terminal_only() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, tempfile.TemporaryFile("w") as file:
        assert guarded(file) is file
        guarded(terminal).write("a\x1b[2Jb\rc\n")
        assert os.read(ours, 100) == b"a\\x1b[2Jb\\rc\r\n"
    os.close(ours)
