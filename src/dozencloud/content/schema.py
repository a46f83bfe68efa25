"""The databases: accounts, and content from a snapshot or from the migrations themselves.

The migrations of the five services take 27-84 s; a dump of what they lead to takes 2 s. The
snapshot is made by tools/make_snapshot.py from the real `db sync` of the pinned releases and
Keystone's own bootstrap; a test compares it with a fresh run. It holds no secret: passwords and
addresses are placeholders in it.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import bcrypt

from dozencloud.cloud.plan import Plan
from dozencloud.services import ALL, keystone, keystone_users, mariadb
from dozencloud.supervision.service import Definition, Tool
from dozencloud.tasks.graph import Step

SNAPSHOT = Path(__file__).parents[1] / "data" / "schema.sql.xz"

Loader = Callable[[Plan, Step], None]


def owners() -> list[tuple[Definition, Tool]]:
    """Services that keep something in a database, each with upstream's program for that."""
    return [(each, each.tool) for each in ALL if each.tool]


def databases() -> dict[str, str]:
    """Database -> the one account that may use it."""
    return {name: tool.service for _, tool in owners() for name in tool.sync}


def users() -> list[str]:
    """Keystone users of a new cloud: the administrator and the services."""
    return ["admin", *(account.name for account in keystone_users())]


def accounts(plan: Plan, step: Step) -> None:
    """One account per service, for its own databases only, over the Unix socket only."""
    lines = []
    for user in sorted(set(databases().values())):
        name = f"'{user}'@'localhost'"
        password = f"IDENTIFIED BY '{plan.secrets[f'mariadb.{user}']}'"
        lines += [f"CREATE USER IF NOT EXISTS {name} {password};", f"ALTER USER {name} {password};"]
    for database, user in databases().items():
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
    """Fill every database that is not filled yet, from the snapshot as far as it has them."""
    filled = loaded(plan, step)
    empty = [name for name in databases() if name not in filled]
    if not empty:
        return
    parts = snapshot()
    if todo := [name for name in empty if name in parts]:
        _load(plan, step, todo, parts)
    for service, tool in owners():
        if any(name in empty and name not in parts for name in tool.sync):
            _migrate_new(plan, step, service, tool)


def _load(plan: Plan, step: Step, names: Sequence[str], parts: Mapping[str, str]) -> None:
    values = {"@PUBLIC@": plan.cloud.public_url, "@INTERNAL@": plan.cloud.internal_url}
    for user in users():
        # 192 random bits need no stretching; the cheapest cost saves 250 ms for every token.
        password = plan.secrets[f"keystone.{user}"].encode()
        values[password_placeholder(user)] = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    script = ["SET GLOBAL innodb_flush_log_at_trx_commit = 0;\n"]
    for name in names:
        text = parts[name]
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        script += [start_over(name), text, mark(name)]
    script.append("SET GLOBAL innodb_flush_log_at_trx_commit = 2;\n")
    step.run(mariadb.client(plan), input="".join(script))


HEADER = "-- database: "


def snapshot() -> dict[str, str]:
    """Dump per database."""
    return split(lzma.decompress(SNAPSHOT.read_bytes()).decode())


def split(text: str) -> dict[str, str]:
    """Snapshot text -> dump per database."""
    blocks = re.split(rf"^{HEADER}(\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


# ---- from the migrations ------------------------------------------------------------------


def administrator(plan: Plan, step: Step) -> None:
    """Keystone's administrator, enabled, with the password that secrets.json has."""
    _run(plan, step, keystone.TOOL, ("bootstrap",))


def config_files(plan: Plan, tool: Tool) -> list[str]:
    """Words by which upstream's programs find the files of a service."""
    etc = plan.cloud.etc / tool.service
    return [word for file in tool.files for word in ("--config-file", str(etc / file))]


def _run(plan: Plan, step: Step, tool: Tool, words: Sequence[str]) -> None:
    command = [plan.script(tool.program), *config_files(plan, tool), *words]
    # The password of Keystone's bootstrap goes by the environment, which is not logged.
    secret = {"OS_BOOTSTRAP_PASSWORD": plan.secrets["keystone.admin"]}
    step.run(command, env=secret, timeout=3600)


def from_migrations(plan: Plan, step: Step) -> None:
    """What the upstream installation guides say; used to make and to check the snapshot."""
    done = loaded(plan, step)
    for service, tool in owners():
        if not done.issuperset(tool.sync):
            _migrate_new(plan, step, service, tool)


def _migrate_new(plan: Plan, step: Step, service: Definition, tool: Tool) -> None:
    """Fill all databases of the service, begun anew."""
    if prepare := service.describe(plan).prepare:
        prepare(step)
    step.run(mariadb.client(plan), input="".join(map(start_over, tool.sync)))
    called = set()
    for name, words in tool.sync.items():
        if words not in called:
            _run(plan, step, tool, words)
            called.add(words)
        for more in tool.first(plan, name):
            _run(plan, step, tool, more)
    step.run(mariadb.client(plan), input="".join(map(mark, tool.sync)))


# ---- from one release to the next ---------------------------------------------------------


def migrate(plan: Plan, step: Step) -> None:
    """Bring every database that is filled to this release; no service may use them meanwhile."""
    wanted, found = heads(), _revisions(plan, step)
    behind = {name for name in found if found[name] != wanted[name]}
    for _, tool in owners():
        for words in dict.fromkeys(tool.sync[name] for name in tool.sync if name in behind):
            step.note(f"{tool.service}'s own migrations")
            _run(plan, step, tool, words)


def migrate_data(plan: Plan, step: Step) -> None:
    """What may also run while the services do."""
    for _, tool in owners():
        for words in tool.online:
            _run(plan, step, tool, words)


def heads() -> dict[str, set[str]]:
    """Database -> alembic's revisions of this release, which the snapshot was made with."""
    rows = {
        name: re.search(r"^INSERT INTO `alembic_version` VALUES\n(.*?);$", part, re.M | re.S)
        for name, part in snapshot().items()
    }
    return {name: set(re.findall(r"'(\w+)'", row[1] if row else "")) for name, row in rows.items()}


def _revisions(plan: Plan, step: Step) -> dict[str, set[str]]:
    """Database -> alembic's revisions that it has."""
    filled = loaded(plan, step)
    found: dict[str, set[str]] = {name: set() for name in databases() if name in filled}
    sql = "".join(
        f"SELECT '{name}', version_num FROM `{name}`.alembic_version;\n"  # noqa: S608 (our names)
        for name in found
    )
    rows = step.run([*mariadb.client(plan), "--skip-column-names"], input=sql).stdout
    for row in rows.splitlines():
        name, revision = row.split()
        found[name].add(revision)
    return found
