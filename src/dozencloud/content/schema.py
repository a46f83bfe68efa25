"""The databases: accounts, and content from a snapshot or from the migrations themselves.

The migrations of the five services take 27-84 s; a dump of what they lead to takes 2 s. The
snapshot is made by tools/make_snapshot.py from the real `db sync` of the pinned releases and
Keystone's own bootstrap; a test compares it with a fresh run. It holds no secret: passwords and
addresses are placeholders in it.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import bcrypt

from dozencloud.cloud.installation import REGION
from dozencloud.cloud.plan import Plan
from dozencloud.services import mariadb
from dozencloud.services.accounts import ACCOUNTS
from dozencloud.services.keystone import make_keys
from dozencloud.tasks.graph import Step

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

USERS = ("admin", *(account.name for account in ACCOUNTS))
"""Keystone users of a new cloud: the administrator and the services."""

SNAPSHOT = Path(__file__).parents[1] / "data" / "schema.sql.xz"

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
    filled = loaded(plan, step)
    todo = [name for name in DATABASES if name not in filled]
    if not todo:
        return
    parts = split(lzma.decompress(SNAPSHOT.read_bytes()).decode())
    values = {"@PUBLIC@": plan.cloud.public_url, "@INTERNAL@": plan.cloud.internal_url}
    for user in USERS:
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

TOOLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "keystone": ("keystone-manage", ("keystone.conf",)),
    "glance": ("glance-manage", ("glance-api.conf",)),
    "placement": ("placement-manage", ("placement.conf",)),
    "neutron": ("neutron-db-manage", ("neutron.conf", "ml2_conf.ini")),
    "nova": ("nova-manage", ("nova.conf",)),
}
"""Service -> upstream's program for its databases, and the files that it reads."""

SYNC: Mapping[str, tuple[str, ...]] = {
    "keystone": ("keystone", "db_sync"),
    "glance": ("glance", "db_sync"),
    "placement": ("placement", "db", "sync"),
    "neutron": ("neutron", "upgrade", "heads"),
    "nova_api": ("nova", "api_db", "sync"),
    "nova_cell0": ("nova", "db", "sync"),
    "nova": ("nova", "db", "sync"),
}
"""Database -> service, and the words with which its tool brings the database to its release."""

ONLINE = (("nova", "db", "online_data_migrations"), ("placement", "db", "online_data_migrations"))
"""Changes of data, not of tables; due before the next upgrade."""


BOOTSTRAP = ("keystone", "bootstrap")


def administrator(plan: Plan, step: Step) -> None:
    """Keystone's administrator, enabled, with the password that secrets.json has."""
    _tool(plan, step, *BOOTSTRAP)


def config_files(plan: Plan, service: str) -> list[str]:
    """Words by which upstream's programs of this service find its files."""
    etc = plan.cloud.etc / service
    return [word for file in TOOLS[service][1] for word in ("--config-file", str(etc / file))]


def _tool(plan: Plan, step: Step, service: str, *words: str) -> None:
    command = [plan.script(TOOLS[service][0]), *config_files(plan, service), *words]
    # The password of Keystone's bootstrap goes by the environment, which is not logged.
    secret = {"OS_BOOTSTRAP_PASSWORD": plan.secrets["keystone.admin"]}
    step.run(command, env=secret, timeout=3600)


def from_migrations(plan: Plan, step: Step) -> None:
    """What the upstream installation guides say; used to make and to check the snapshot."""
    done = loaded(plan, step)
    tool = partial(_tool, plan, step)

    def fill(databases: tuple[str, ...], migrate: Callable[[], None]) -> None:
        if all(name in done for name in databases):
            return
        step.run(mariadb.client(plan), input="".join(map(start_over, databases)))
        migrate()
        step.run(mariadb.client(plan), input="".join(map(mark, databases)))

    def keystone() -> None:
        make_keys(plan)
        tool(*SYNC["keystone"])
        public, internal = (
            f"{plan.cloud.public_url}/identity",
            f"{plan.cloud.internal_url}/identity",
        )
        tool(
            *BOOTSTRAP,
            *("--bootstrap-region-id", REGION, "--bootstrap-admin-url", f"{internal}/v3"),
            *("--bootstrap-public-url", f"{public}/v3"),
            *("--bootstrap-internal-url", f"{internal}/v3"),
        )

    def nova() -> None:
        tool(*SYNC["nova_api"])
        cell0 = ("--database_connection", CELL0_DATABASE)
        tool("nova", "cell_v2", "map_cell0", *cell0)
        cell1 = ("--database_connection", CELL_DATABASE, "--transport-url", CELL_BROKER)
        tool("nova", "cell_v2", "create_cell", "--name", "cell1", *cell1)
        tool(*SYNC["nova"])

    fill(("keystone",), keystone)
    fill(("glance",), lambda: tool(*SYNC["glance"]))
    fill(("placement",), lambda: tool(*SYNC["placement"]))
    fill(("neutron",), lambda: tool(*SYNC["neutron"]))
    fill(("nova_api", "nova_cell0", "nova"), nova)


# ---- from one release to the next ---------------------------------------------------------


def migrate(plan: Plan, step: Step) -> None:
    """Bring every database that is filled to this release; no service may use them meanwhile."""
    wanted, found = heads(), _revisions(plan, step)
    behind = [name for name in found if found[name] != wanted[name]]
    for command in dict.fromkeys(SYNC[name] for name in behind):
        step.note(f"{command[0]}'s own migrations")
        _tool(plan, step, *command)


def migrate_data(plan: Plan, step: Step) -> None:
    """What may also run while the services do."""
    for command in ONLINE:
        _tool(plan, step, *command)


def heads() -> dict[str, set[str]]:
    """Database -> alembic's revisions of this release, which the snapshot was made with."""
    parts = split(lzma.decompress(SNAPSHOT.read_bytes()).decode())
    rows = {
        name: re.search(r"^INSERT INTO `alembic_version` VALUES\n(.*?);$", part, re.M | re.S)
        for name, part in parts.items()
    }
    return {name: set(re.findall(r"'(\w+)'", row[1] if row else "")) for name, row in rows.items()}


def _revisions(plan: Plan, step: Step) -> dict[str, set[str]]:
    """Database -> alembic's revisions that it has."""
    filled = loaded(plan, step)
    found: dict[str, set[str]] = {name: set() for name in DATABASES if name in filled}
    sql = "".join(
        f"SELECT '{name}', version_num FROM `{name}`.alembic_version;\n"  # noqa: S608 (our names)
        for name in found
    )
    rows = step.run([*mariadb.client(plan), "--skip-column-names"], input=sql).stdout
    for row in rows.splitlines():
        name, revision = row.split()
        found[name].add(revision)
    return found
