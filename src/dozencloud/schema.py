"""The databases: accounts, and content from a snapshot or from the migrations themselves.

The migrations of the five services take 27-84 s; a dump of what they lead to takes 2 s. The
snapshot is made by tools/make-snapshot from the real `db sync` of the pinned releases and
Keystone's own bootstrap; a test compares it with a fresh run. It holds no secret: passwords and
addresses are placeholders in it.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import bcrypt

from dozencloud.cloud import REGION
from dozencloud.graph import Step
from dozencloud.services import mariadb
from dozencloud.services.base import Plan
from dozencloud.services.keystone import make_keys

DATABASES: Mapping[str, str] = {
    "keystone": "keystone",
    "glance": "glance",
    "placement": "placement",
    "neutron": "neutron",
    "nova_api": "nova",
    "nova_cell0": "nova",
    "nova": "nova",
}
"""Database -> the one account that may use it."""

ACCOUNTS = ("admin", "glance", "placement", "nova", "neutron")
"""Keystone users of a new cloud: the administrator and the services."""

SNAPSHOT = Path(__file__).parent / "data" / "schema.sql.xz"

# Nova fills these in from each process's own configuration, so that the cell mappings hold no
# password (nova/objects/cell_mapping.py, "cell mapping template").
CELL_DATABASE = "{scheme}://{username}:{password}@{hostname}/{path}?{query}"
CELL0_DATABASE = CELL_DATABASE.replace("{path}", "nova_cell0")
CELL_BROKER = "{scheme}://{username}:{password}@{hostname}:{port}/{path}"

Loader = Callable[[Plan, Step], None]


def accounts(plan: Plan, step: Step) -> None:
    """One account per service, for its own databases only, over the Unix socket only."""
    lines = []
    for user in sorted(set(DATABASES.values())):
        name = f"'{user}'@'localhost'"
        password = f"IDENTIFIED BY '{plan.secrets[f'mariadb.{user}']}'"
        lines += [f"CREATE USER IF NOT EXISTS {name} {password};", f"ALTER USER {name} {password};"]
    for database, user in DATABASES.items():
        # `_` is a wildcard in the name of a grant's database.
        pattern = database.replace("_", r"\_")
        lines.append(f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{user}'@'localhost';")
    step.run(mariadb.client(plan), input="\n".join(lines))


def loaded(plan: Plan, step: Step) -> set[str]:
    """Databases that were filled to the end."""
    sql = (
        "CREATE DATABASE IF NOT EXISTS dozencloud;"
        "CREATE TABLE IF NOT EXISTS dozencloud.filled (name VARCHAR(64) PRIMARY KEY);"
        "SELECT name FROM dozencloud.filled;"
    )
    return set(step.run([*mariadb.client(plan), "--skip-column-names"], input=sql).stdout.split())


def mark(database: str) -> str:
    return f"INSERT IGNORE INTO dozencloud.filled VALUES ('{database}');\n"  # noqa: S608 (our names)


def start_over(database: str) -> str:
    """A database that is not marked as filled was never in use: begin it anew."""
    return (
        f"DROP DATABASE IF EXISTS `{database}`;\n"
        f"CREATE DATABASE `{database}` CHARACTER SET utf8mb3;\nUSE `{database}`;\n"
    )


# ---- from the snapshot --------------------------------------------------------------------


def password_placeholder(user: str) -> str:
    return f"@PASSWORD-HASH:{user}@"


def from_snapshot(plan: Plan, step: Step) -> None:
    """Fill every database that is not filled yet, from the snapshot."""
    todo = [name for name in DATABASES if name not in loaded(plan, step)]
    if not todo:
        return
    parts = split(lzma.decompress(SNAPSHOT.read_bytes()).decode())
    values = {"@PUBLIC@": plan.cloud.public_url, "@INTERNAL@": plan.cloud.internal_url}
    for user in ACCOUNTS:
        # 192 random bits need no stretching; the cheapest cost saves 250 ms for every token.
        password = plan.secrets[f"keystone.{user}"].encode()
        values[password_placeholder(user)] = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    script = ["SET GLOBAL innodb_flush_log_at_trx_commit = 0;\n"]
    for name in todo:
        text = parts[name]
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        script += [start_over(name), text, mark(name)]
    script.append("SET GLOBAL innodb_flush_log_at_trx_commit = 2;\n")
    step.run(mariadb.client(plan), input="".join(script))


HEADER = "-- database: "


def split(text: str) -> dict[str, str]:
    """Snapshot text -> dump per database."""
    blocks = re.split(rf"^{HEADER}(\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


# ---- from the migrations ------------------------------------------------------------------


def from_migrations(plan: Plan, step: Step) -> None:
    """What the upstream installation guides say; used to make and to check the snapshot."""
    etc = plan.cloud.etc
    done = loaded(plan, step)

    def tool(service: str, config: str, *words: str) -> None:
        configs = [w for c in config.split() for w in ("--config-file", str(etc / service / c))]
        program = {"neutron": "neutron-db-manage"}.get(service, f"{service}-manage")
        # The password of the bootstrap goes by the environment, which is not logged.
        secret = {"OS_BOOTSTRAP_PASSWORD": plan.secrets["keystone.admin"]}
        step.run([plan.script(program), *configs, *words], env=secret, timeout=600)

    def fill(databases: tuple[str, ...], migrate: Callable[[], None]) -> None:
        if all(name in done for name in databases):
            return
        step.run(mariadb.client(plan), input="".join(map(start_over, databases)))
        migrate()
        step.run(mariadb.client(plan), input="".join(map(mark, databases)))

    def keystone() -> None:
        make_keys(plan)
        tool("keystone", "keystone.conf", "db_sync")
        public, internal = (
            f"{plan.cloud.public_url}/identity",
            f"{plan.cloud.internal_url}/identity",
        )
        tool(
            *("keystone", "keystone.conf", "bootstrap"),
            *("--bootstrap-region-id", REGION, "--bootstrap-admin-url", f"{internal}/v3"),
            *("--bootstrap-public-url", f"{public}/v3"),
            *("--bootstrap-internal-url", f"{internal}/v3"),
        )

    def nova() -> None:
        tool("nova", "nova.conf", "api_db", "sync")
        cell0 = ("--database_connection", CELL0_DATABASE)
        tool("nova", "nova.conf", "cell_v2", "map_cell0", *cell0)
        cell1 = ("--database_connection", CELL_DATABASE, "--transport-url", CELL_BROKER)
        tool("nova", "nova.conf", "cell_v2", "create_cell", "--name", "cell1", *cell1)
        tool("nova", "nova.conf", "db", "sync")

    fill(("keystone",), keystone)
    fill(("glance",), lambda: tool("glance", "glance-api.conf", "db_sync"))
    fill(("placement",), lambda: tool("placement", "placement.conf", "db", "sync"))
    fill(("neutron",), lambda: tool("neutron", "neutron.conf ml2_conf.ini", "upgrade", "heads"))
    fill(("nova_api", "nova_cell0", "nova"), nova)
