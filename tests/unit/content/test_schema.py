"""The database snapshot's text: whole, and without a secret or an address."""

from __future__ import annotations

import lzma
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import pytest
from plans_kit import make_plan

from dozencloud.content import schema
from dozencloud.services import nova
from dozencloud.tasks.graph import Step


@pytest.fixture(scope="module")
def text() -> str:
    return lzma.decompress(schema.SNAPSHOT.read_bytes()).decode()


def test_split() -> None:
    text = "-- database: a\nCREATE 1;\n-- database: no header\n-- database: b_2\nCREATE 2;\n"
    assert schema.split(text) == {
        "a": "\nCREATE 1;\n-- database: no header\n",
        "b_2": "\nCREATE 2;\n",
    }
    assert schema.split("") == {}


def test_every_database_is_there(text: str) -> None:
    parts = schema.split(text)
    assert set(parts) == set(schema.databases())
    for name, part in parts.items():
        assert "CREATE TABLE `alembic_version`" in part, name
        assert re.search(r"INSERT INTO `alembic_version` VALUES\n\('\w+'\)", part), name


def test_a_placeholder_for_every_account_and_for_nobody_else(text: str) -> None:
    assert set(re.findall(r"@PASSWORD-HASH:([\w-]+)@", text)) == set(schema.users())
    for user in schema.users():
        assert text.count(schema.password_placeholder(user)) == 1


def test_every_endpoint_is_a_placeholder(text: str) -> None:
    part = schema.split(text)["keystone"]
    _, _, endpoints = part.partition("INSERT INTO `endpoint` VALUES\n")
    rows = endpoints.partition(";\n")[0].splitlines()
    assert len(rows) == 15  # five services, three interfaces
    for row in rows:
        where = "@PUBLIC@" if "'public'" in row else "@INTERNAL@"
        assert f"'{where}/" in row


@pytest.mark.parametrize(
    "pattern",
    [
        r"\$2[aby]\$\d\d\$",  # bcrypt
        r"\$(?:scrypt|argon2\w*|pbkdf2[\w-]*|[156])\$",
        r"\b(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])(?:\.\d{1,3}){3}\b",  # IPv4
        r"https?://",
        r"mysql\+|rabbit://",
        r"\bBEGIN \w* ?PRIVATE KEY",
        r"/var/|/etc/|/run/|/tmp/",
    ],
)
def test_no_secret_and_no_address(text: str, pattern: str) -> None:
    assert re.findall(rf".*{pattern}.*", text) == []


def test_cells_hold_templates_instead_of_passwords(text: str) -> None:
    part = schema.split(text)["nova_api"]
    for template in (nova.CELL_DATABASE, nova.CELL0_DATABASE, nova.CELL_BROKER):
        assert f"'{template}'" in part


def test_a_database_that_is_begun_anew_is_empty() -> None:
    lines = schema.start_over("nova_api").splitlines()
    assert lines[0] == "DROP DATABASE IF EXISTS `nova_api`;"
    assert lines[1].startswith("CREATE DATABASE `nova_api` ")
    assert lines[2] == "USE `nova_api`;"


def test_the_revisions_that_the_migrations_lead_to() -> None:
    found = schema.heads()
    synced = {name for _, tool in schema.owners() for name in tool.sync}
    assert set(found) == set(schema.databases()) == synced
    assert all(found.values())
    assert found["nova"] == found["nova_cell0"] != found["nova_api"]
    # Of expanding and of contracting migrations.
    assert len(found["neutron"]) == 2


class Client:
    """MariaDB's, counted. A real database: tests/functional/content/test_snapshot.py."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, words: list[str], *, input: str, **_: Any) -> CompletedProcess[str]:
        self.asked.append(input)
        filled = "".join(f"{name}\n" for name in schema.databases() if name != "nova")
        rows = "".join(f"{name}\tr1\n{name}\tr2\n" for name in re.findall(r"SELECT '(\w+)'", input))
        return CompletedProcess(words, 0, filled if "dozencloud.filled;" in input else rows, "")


def test_one_client_asks_for_all_databases(tmp_path: Path) -> None:
    plan, client = make_plan(tmp_path), Client()
    step = cast(Step, client)
    revisions = schema._revisions(plan, step)
    assert revisions == {n: {"r1", "r2"} for n in schema.databases() if n != "nova"}
    assert len(client.asked) == 2
    client.asked.clear()
    schema.from_snapshot(plan, step)
    assert [text.count("DROP DATABASE") for text in client.asked] == [0, 1]
