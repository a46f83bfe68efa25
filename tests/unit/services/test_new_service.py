"""A service is one file and one line: all that others need to know about it they take from there.

`DRAUGHTS` below is that file, of a service that does not exist; `ALL` gets the line.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import pytest
from pages_kit import CHECKOUT
from plans_kit import make_plan

import dozencloud.services
from dozencloud.cloud.plan import FIRST, JOINED, Plan, Role
from dozencloud.content import schema
from dozencloud.host.distributions.needs import Need
from dozencloud.services.accounts import TOKEN_CHECK
from dozencloud.services.options import database_options, ini
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import (
    Account,
    Api,
    Definition,
    File,
    Folder,
    Rate,
    Service,
    Tool,
    api_folders,
    python_wsgi,
)
from dozencloud.tasks.graph import Step

TOOLS = str(CHECKOUT / "tools")

# ---- the file -----------------------------------------------------------------------------


def describe(plan: Plan) -> Service:
    etc = plan.cloud.etc / "draughts"
    config = ini({"database": database_options(plan, "draughts")})
    return Service(
        DRAUGHTS,
        command=python_wsgi(plan, DRAUGHTS, "draughts.wsgi:application"),
        user="dozen-draughts",
        folders=(Folder(etc), *api_folders(plan.cloud, DRAUGHTS, "dozen-draughts")),
        files=(File(etc / "draughts.conf", config),),
        after=("mariadb",),
        ready=answers(plan.cloud, "draughts", "/draughts"),
    )


DRAUGHTS = Definition(
    name="draughts",
    title="Games of draughts",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    api=Api(
        "draughts",
        body="7k",
        kind="board-game",
        name="draughts",
        version="/v8",
        rate=Rate(per_second=3, burst=9),
    ),
    tool=Tool("draughts-manage", "draughts", ("draughts.conf",), {"draughts": ("sync",)}),
    accounts=(Account("draughts", (TOKEN_CHECK,), "Draughts checks the tokens of its callers."),),
    needs=(Need.IMAGE_BUILDER,),
    foundation=True,
)


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line, where the tables of all services are; who imported the tuple gets the new one."""
    longer = (*dozencloud.services.ALL, DRAUGHTS)
    for module in (dozencloud.services, schema):
        monkeypatch.setattr(module, "ALL", longer)


class Commands:
    """Hears what would be run. A real database: tests/functional/content/test_snapshot.py."""

    def __init__(self) -> None:
        self.heard: list[tuple[list[str], str]] = []

    def run(self, words: list[str], *, input: str = "", **_: Any) -> CompletedProcess[str]:
        self.heard.append((words, input))
        return CompletedProcess(words, 0, "", "")


# ---- where it is found --------------------------------------------------------------------


def test_the_gateway_leads_to_it(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    (gateway,) = (s for s in dozencloud.services.services(plan) if s.name == "gateway")
    config = gateway.files[0].content
    assert f"upstream draughts {{ server unix:{plan.cloud.run}/api/draughts/api.sock;" in config
    location = "location /draughts/ { proxy_pass http://draughts; client_max_body_size 7k;"
    public, internal = config.split("\n  server {\n")[1:]
    assert f"{location} limit_req zone=draughts burst=9; }}" in public
    assert f"{location} }}" in internal
    assert "zone=draughts:1m rate=3r/s;" in config


def test_mariadb_gets_its_account_and_its_database(tmp_path: Path) -> None:
    plan, commands = make_plan(tmp_path), Commands()
    schema.accounts(plan, cast(Step, commands))
    ((_, sql),) = commands.heard
    password = plan.secrets["mariadb.draughts"]
    assert f"CREATE USER IF NOT EXISTS 'draughts'@'localhost' IDENTIFIED BY '{password}';" in sql
    assert "GRANT ALL PRIVILEGES ON `draughts`.* TO 'draughts'@'localhost';" in sql


def test_what_the_snapshot_does_not_have_its_own_program_fills(tmp_path: Path) -> None:
    plan, commands = make_plan(tmp_path), Commands()
    schema.from_snapshot(plan, cast(Step, commands))
    programs = [words for words, _ in commands.heard if "draughts-manage" in words[0]]
    config = str(plan.cloud.etc / "draughts" / "draughts.conf")
    assert [words[1:] for words in programs] == [["--config-file", config, "sync"]]
    marks = [sql for _, sql in commands.heard if "INSERT IGNORE INTO dozencloud.filled" in sql]
    assert any("'draughts'" in sql for sql in marks)


def test_keystone_gets_its_account_and_the_catalogue_its_address() -> None:
    assert DRAUGHTS.api in dozencloud.services.catalogued()
    assert "draughts" in {account.name for account in dozencloud.services.keystone_users()}


def test_it_runs_and_is_shown_where_its_role_is(tmp_path: Path) -> None:
    made = {s.name: s for s in dozencloud.services.services(make_plan(tmp_path))}
    assert made["draughts"].reached == "/draughts"
    assert re.search(
        r"wsgi draughts.wsgi:application \S+/api/draughts/api.sock /draughts ",
        " ".join(made["draughts"].command),
    )


def test_its_packages_are_installed_where_its_role_is() -> None:
    assert Need.IMAGE_BUILDER in dozencloud.services.needs(FIRST, time=False)
    assert Need.IMAGE_BUILDER not in dozencloud.services.needs(JOINED, time=False)


def test_the_documents_tables_get_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    made = importlib.import_module("made.services")
    monkeypatch.setattr(made, "ALL", dozencloud.services.ALL)
    tables = importlib.import_module("made.registry").TABLES
    assert "| `draughts` | dozen-draughts | controller | |" in tables["users"]()
    listening = "`/run/dozencloud/api/draughts/api.sock`, by the gateway `/draughts`"
    assert f"| `draughts` | Games of draughts | {listening} |" in tables["listeners"]()
    accounts = importlib.import_module("made.accounts")
    assert "| `draughts` | `token-check` | Draughts checks" in accounts.accounts_table()
