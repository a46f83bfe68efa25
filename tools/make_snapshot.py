"""Make src/dozencloud/data/schema.sql.xz from the migrations of the pinned releases.

Needs root and the packages of `dozen up`. Brings up a scratch cloud as far as the service
catalogue, dumps its databases with placeholders for secrets and addresses, removes it again.
Takes 1-2 minutes.

    sudo ENVIRONMENT/bin/python tools/make_snapshot.py [OUTPUT]
"""

from __future__ import annotations

import lzma
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from dozencloud import facts
from dozencloud.cloud import installation
from dozencloud.cloud.plan import Plan
from dozencloud.content import schema
from dozencloud.lifecycle import destroy
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.lifecycle.node import make_plan
from dozencloud.services import mariadb
from dozencloud.tasks.graph import Graph, Task
from dozencloud.tasks.view import make_listener

LAST = "catalogue"


def up_to(tasks: list[Task], last: str) -> list[Task]:
    """The task `last` and all that it needs."""
    by_name = {task.name: task for task in tasks}
    wanted: set[str] = set()

    def want(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for needed in by_name[name].after:
                want(needed)

    want(last)
    return [task for task in tasks if task.name in wanted]


def query(plan: Plan, sql: str) -> str:
    command = [*mariadb.client(plan), "--skip-column-names", "-e", sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dump(plan: Plan) -> str:
    """All databases as SQL, one `-- database:` block each."""
    hidden = {plan.cloud.public_url: "@PUBLIC@", plan.cloud.internal_url: "@INTERNAL@"}
    rows = query(
        plan,
        "SELECT u.name, p.password_hash FROM keystone.password p"
        " JOIN keystone.local_user u ON u.id = p.local_user_id",
    )
    for user, hashed in (line.split("\t") for line in rows.splitlines()):
        hidden[hashed] = schema.password_placeholder(user)
    blocks = []
    for name in schema.databases():
        options = ["--skip-comments", "--skip-add-locks", "--skip-tz-utc", "--single-transaction"]
        socket = f"--socket={plan.cloud.run}/mariadb/mariadb.sock"
        command = ["mariadb-dump", "--no-defaults", socket, "--user=root", *options, name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for value, placeholder in hidden.items():
            text = text.replace(value, placeholder)
        # Clients older than the server do not know this line (MDEV-34339).
        text = re.sub(r"^/\*M?!999999.*\n", "", text)
        blocks.append(f"{schema.HEADER}{name}\n{text}")
    whole = "".join(blocks)
    for user in schema.users():
        if schema.password_placeholder(user) not in whole:
            raise SystemExit(f"the password of {user} was not found in the dump")
    return whole


def build() -> str:
    """Text of the snapshot, from a scratch cloud."""
    with tempfile.TemporaryDirectory(prefix="dzsnap", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        scratch = installation.load(Path(folder))
        found = facts.gather()
        plan = make_plan(scratch, found)
        tasks = Bringup(plan, found, schema.from_migrations).tasks(first_server=False)
        try:
            graph = Graph(up_to(tasks, LAST))
            graph.run(make_listener(graph), log_dir=scratch.log / "up")
            return dump(plan)
        finally:
            destroy.destroy(scratch)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else schema.SNAPSHOT
    text = build()
    target.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target}: {len(text)} bytes of SQL, {target.stat().st_size} compressed")


if __name__ == "__main__":
    main()
