"""The database snapshot is what the migrations lead to, and MariaDB takes it.

What differs between two runs of the same migrations: random ids, times and days, and the order of a
table's indexes. `normal` takes just that away; the first tests prove that nothing else goes.

Only the migrations themselves, all of them (a minute), show that the snapshot is not stale.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import bcrypt
import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.content import schema
from dozencloud.host import users
from dozencloud.lifecycle.services import make_folder
from dozencloud.private import write_private
from dozencloud.services import mariadb
from dozencloud.supervision.client import clean_environment
from dozencloud.supervision.service import GROUP
from dozencloud.tasks.graph import Step

TOOLS = str(Path(__file__).resolve().parents[3] / "tools")
NO_ID = "00000000-0000-0000-0000-000000000000"
ID = re.compile(
    r"\b(?!00000000-)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|(?<=')[0-9a-f]{32}(?=')"
)
# Keystone's last_active_at is a day without a time.
TIME = re.compile(r"'20\d\d-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?)?'")
# Keystone's created_at_int: microseconds since 1970.
MICROSECONDS = re.compile(r"\b1[789]\d{14}\b")
CREATE = re.compile(r"^CREATE TABLE `(\w+)` \(\n(.*?)\n(\)[^\n]*);$", re.MULTILINE | re.DOTALL)
INSERT = re.compile(r"^INSERT INTO `(\w+)` VALUES\n(.*?);$", re.MULTILINE | re.DOTALL)

Row = tuple[str, str]
"""Database.table, and the values as SQL."""


def structure(database: str, text: str) -> dict[str, tuple[list[str], list[str]]]:
    """Table → its columns in order and its options, and its keys and constraints sorted."""
    tables = {}
    for name, body, options in CREATE.findall(text):
        lines = [line.strip().rstrip(",") for line in body.splitlines()]
        columns = [line for line in lines if line.startswith("`")]
        # MariaDB numbers the constraints without a name in the order in which they come.
        keys = [re.sub(r"_ibfk_\d+`", "_ibfk`", line) for line in lines if line not in columns]
        options = re.sub(r" AUTO_INCREMENT=\d+", "", options)
        tables[f"{database}.{name}"] = ([*columns, options], sorted(keys))
    return tables


def rows(database: str, text: str) -> list[Row]:
    return [
        (f"{database}.{table}", MICROSECONDS.sub("@TIME@", TIME.sub("@TIME@", line.rstrip(","))))
        for table, lines in INSERT.findall(text)
        for line in lines.splitlines()
    ]


def _name(own: str, found: list[Row], names: Mapping[str, str]) -> str:
    def said(match: re.Match[str]) -> str:
        return "SELF" if match[0] == own else names[match[0]]

    lines = sorted(table + ID.sub(said, row) for table, row in found if own in row)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def relabel(found: list[Row]) -> list[Row]:
    """The rows, sorted, with every random id named after what the rows with it say.

    Colour refinement (Weisfeiler and Leman): a name is made anew from all rows that hold the id,
    with the names that the other ids have so far; so a row that leads to another user, role or
    project than before gets another name.
    """
    names: dict[str, str] = dict.fromkeys((i for _, row in found for i in ID.findall(row)), "")
    for _ in range(6):
        names = {own: _name(own, found, names) for own in names}
    return sorted((table, ID.sub(lambda match: names[match[0]], row)) for table, row in found)


def normal(text: str) -> tuple[Mapping[str, object], list[Row]]:
    """All that must be the same in two runs: the tables' structure, and their rows."""
    parts = schema.split(text)
    tables: dict[str, object] = dict.fromkeys(parts)
    for database, part in parts.items():
        tables |= structure(database, part)
        # Nothing that was not understood: every statement is in one of the two.
        assert part.count("CREATE TABLE") == len(structure(database, part))
        assert part.count("INSERT INTO") == len(INSERT.findall(part))
    return tables, relabel([row for name, part in parts.items() for row in rows(name, part)])


@pytest.fixture(scope="module")
def stored() -> str:
    return lzma.decompress(schema.SNAPSHOT.read_bytes()).decode()


# ---- the comparison sees what it must -----------------------------------------------------


def cut(text: str, pattern: str) -> str:
    """Without the first match, which must be there."""
    changed = re.sub(pattern, "", text, count=1, flags=re.MULTILINE | re.DOTALL)
    assert changed != text
    return changed


def swap(text: str, pattern: str) -> str:
    """The first match's two groups change places."""
    match = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    assert match
    (a, b), (c, d) = match.span(1), match.span(2)
    assert match[1] != match[2]
    return text[:a] + match[2] + text[b:c] + match[1] + text[d:]


LINE = r"^\('{}','([0-9a-f]{{32}})','[0-9a-f]{{32}}','([0-9a-f]{{32}})',0\)"


@pytest.mark.parametrize(
    "mutate",
    [
        pytest.param(lambda t: cut(t, r"^-- database: nova_cell0\n.*?(?=^-- d)"), id="database"),
        pytest.param(lambda t: cut(t, r"^CREATE TABLE `instances` .*?;$"), id="table"),
        pytest.param(lambda t: cut(t, r"^  `vm_state` .*?\n"), id="column"),
        pytest.param(lambda t: swap(t, r"^(  `\w+` [^\n]*,)\n(  `\w+` [^\n]*,)$"), id="order"),
        pytest.param(lambda t: t.replace("varchar(64)", "varchar(65)", 1), id="type"),
        pytest.param(lambda t: cut(t, r" NOT NULL"), id="not null"),
        pytest.param(lambda t: cut(t, r"^  KEY .*?\n"), id="index"),
        pytest.param(lambda t: cut(t, r"^  UNIQUE KEY .*?\n"), id="unique index"),
        pytest.param(lambda t: cut(t, r"^  CONSTRAINT .*?\n"), id="constraint"),
        pytest.param(lambda t: cut(t, r" ON DELETE CASCADE"), id="what the constraint does"),
        pytest.param(lambda t: t.replace("utf8mb3_general_ci", "x", 1), id="collation"),
        pytest.param(lambda t: cut(t, r"^INSERT INTO `region` .*?;$"), id="all rows"),
        pytest.param(lambda t: cut(t, r"^\([^\n]*'IMMU','true'\),\n"), id="row"),
        pytest.param(lambda t: t.replace("'RegionOne'", "'RegionTwo'", 1), id="value"),
        pytest.param(lambda t: t.replace("@INTERNAL@/image", "@INTERNAL@/x", 1), id="endpoint"),
        pytest.param(lambda t: t.replace("@PASSWORD-HASH:nova@", "$2b$", 1), id="password"),
        pytest.param(lambda t: t.replace(NO_ID, NO_ID[:-1] + "1", 1), id="cell0's own id"),
        pytest.param(
            lambda t: re.sub(r"(VALUES\n\()'\w{12}'", r"\1'x'", t, count=1), id="revision"
        ),
        pytest.param(
            lambda t: swap(t, LINE.format("UserProject")), id="user and role change places"
        ),
        pytest.param(
            lambda t: swap(
                t,
                r"INSERT INTO `implied_role` VALUES\n"
                r"\('([0-9a-f]{32})','[0-9a-f]{32}'\),\n\('([0-9a-f]{32})'",
            ),
            id="a role implies another one",
        ),
        pytest.param(
            lambda t: swap(t, r"'([0-9a-f]{32})','default','admin'.*?'([0-9a-f]{32})','default',"),
            id="names of two users with different rights",
        ),
        pytest.param(
            lambda t: re.sub(r"(,NULL,)'20\d\d-[^']*'\)", r"\1NULL)", t, count=1), id="no time"
        ),
    ],
)
def test_a_change_is_seen(stored: str, mutate: object) -> None:
    assert callable(mutate)
    changed = mutate(stored)
    assert changed != stored
    assert normal(changed) != normal(stored)


def test_other_ids_and_times_and_another_order_of_indexes_are_the_same(stored: str) -> None:
    def other(match: re.Match[str]) -> str:
        digits = iter(hashlib.sha256(match[0].encode()).hexdigest())
        return "".join("-" if c == "-" else next(digits) for c in match[0])

    changed = ID.sub(other, stored)
    changed = TIME.sub("'2031-01-02 03:04:05'", changed)
    changed = MICROSECONDS.sub("1895343414485376", changed)
    changed = swap(changed, r"^(  KEY [^\n]*),\n(  KEY [^\n]*),$")
    changed = swap(changed, r"INSERT INTO `role` VALUES\n(\([^\n]*\)),\n(\([^\n]*\)),")
    assert changed.count("2031-01-02") > 5
    assert normal(changed) == normal(stored)


# ---- MariaDB takes it ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """A database server under a root of its own, as the service describes it; filled."""
    step = Step(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="dzdb", dir="/var/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        cloud = Cloud(root)
        for path in cloud.folders:
            path.mkdir()
        node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=False)
        plan = Plan(cloud, node, Secrets(cloud.etc / "secrets.json"), Path(sys.prefix))
        service = mariadb.describe(plan)
        added = users.missing({service.user: GROUP})
        users.create(step, {service.user: GROUP})
        for item in service.folders:
            make_folder(item)
        for file in service.files:
            write_private(file.path, file.content, file.mode)
            users.own(file.path, file.owner)
        assert service.prepare
        service.prepare(step)
        with (cloud.log / "mariadb.log").open("w") as log:
            server = subprocess.Popen(
                service.command,
                user=service.user,
                group=service.user,
                extra_groups=[GROUP],
                stdout=log,
                stderr=log,
                env=clean_environment(cloud),
            )
        try:
            step.until(service.ready, seconds=30, every=0.05, what="MariaDB")
            schema.accounts(plan, step)
            schema.from_snapshot(plan, step)
            yield plan
        finally:
            server.terminate()
            server.wait(20)
            for user in added:
                subprocess.run(["userdel", user], check=False, capture_output=True)


def ask(plan: Plan, user: str, sql: str) -> subprocess.CompletedProcess[str]:
    """SQL as the account of a service."""
    words = [w for w in mariadb.client(plan) if not w.startswith("--user=")]
    return subprocess.run(
        [*words, f"--user={user}", "--skip-column-names", "-e", sql],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MYSQL_PWD": plan.secrets[f"mariadb.{user}"]},
    )


def as_root(plan: Plan, sql: str) -> list[list[str]]:
    words = [*mariadb.client(plan), "--skip-column-names", "-e", sql]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.functional
def test_what_was_put_in_comes_out_again(plan: Plan, stored: str) -> None:
    sys.path.insert(0, TOOLS)
    import make_snapshot

    assert normal(make_snapshot.dump(plan)) == normal(stored)


@pytest.mark.functional
def test_the_passwords_are_those_of_the_cloud(plan: Plan) -> None:
    found = as_root(
        plan,
        "SELECT u.name, p.password_hash FROM keystone.password p"
        " JOIN keystone.local_user u ON u.id = p.local_user_id",
    )
    assert {name for name, _ in found} == set(schema.users())
    for name, hashed in found:
        assert bcrypt.checkpw(plan.secrets[f"keystone.{name}"].encode(), hashed.encode()), name


@pytest.mark.functional
@pytest.mark.parametrize("user", sorted(set(schema.databases().values())))
def test_an_account_sees_its_own_databases_only(plan: Plan, user: str) -> None:
    own = {database for database, owner in schema.databases().items() if owner == user}
    seen = ask(plan, user, "SHOW DATABASES")
    assert set(seen.stdout.split()) - {"information_schema"} == own, seen.stderr
    for database in schema.databases():
        done = ask(plan, user, f"SELECT COUNT(*) FROM {database}.alembic_version")  # noqa: S608
        if database in own:
            assert int(done.stdout) >= 1, database
        else:
            assert "denied to user" in done.stderr, database
    for sql in ("CREATE DATABASE mine", "SELECT * FROM mysql.global_priv", "CREATE USER mine"):
        assert re.search("[Aa]ccess denied|command denied", ask(plan, user, sql).stderr), sql


@pytest.mark.functional
def test_a_name_with_an_underscore_is_no_pattern(plan: Plan) -> None:
    as_root(plan, "CREATE DATABASE novaxapi")
    try:
        assert "Access denied" in ask(plan, "nova", "USE novaxapi").stderr
    finally:
        as_root(plan, "DROP DATABASE novaxapi")


@pytest.mark.functional
def test_nobody_else_is_root_of_the_database(plan: Plan) -> None:
    done = subprocess.run(
        [*mariadb.client(plan), "-e", "SELECT 1"],
        check=False,
        capture_output=True,
        text=True,
        user=mariadb.USER,
        extra_groups=[GROUP],
    )
    assert "Access denied for user 'root'@'localhost'" in done.stderr


@pytest.mark.functional
def test_filling_again_mends_what_was_cut_off_and_leaves_the_rest(plan: Plan) -> None:
    step = Step(io.StringIO())
    as_root(
        plan,
        "DELETE FROM dozencloud.filled WHERE name = 'glance';"
        "ALTER TABLE glance.images ADD stray INT;"
        "INSERT INTO keystone.region (id, description, extra) VALUES ('Kept', '', '{}')",
    )
    schema.from_snapshot(plan, step)
    assert schema.loaded(plan, step) == set(schema.databases())
    columns = [row[0] for row in as_root(plan, "SHOW COLUMNS FROM glance.images")]
    assert "disk_format" in columns
    assert "stray" not in columns
    assert ["Kept"] in as_root(plan, "SELECT id FROM keystone.region")
    as_root(plan, "DELETE FROM keystone.region WHERE id = 'Kept'")


# ---- it is what the migrations lead to ----------------------------------------------------


@pytest.mark.functional
@pytest.mark.timeout(400)
def test_the_snapshot_is_what_the_migrations_lead_to(stored: str) -> None:
    sys.path.insert(0, TOOLS)
    import make_snapshot

    tables, found = normal(make_snapshot.build())
    stored_tables, stored_rows = normal(stored)
    stale = "the snapshot is stale; run: tools/make_snapshot.py"
    assert set(tables) == set(stored_tables), stale
    for table, wanted in tables.items():
        assert stored_tables[table] == wanted, f"{table}: {stale}"
    assert stored_rows == found, stale
