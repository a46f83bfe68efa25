"""MariaDB: the databases of all services. Unix socket only, root by socket credentials."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.distributions.needs import Need
from dozencloud.services.options import ini
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import GROUP, Definition, File, Folder, Service
from dozencloud.tasks.graph import Step

USER = "dozen-mariadb"


def client(plan: Plan) -> list[str]:
    """Command line of the client as the database's root."""
    return ["mariadb", "--no-defaults", f"--socket={socket(plan)}", "--user=root", "--batch"]


def socket(plan: Plan) -> Path:
    """Where it listens."""
    return plan.cloud.run / "mariadb" / "mariadb.sock"


def _options(plan: Plan) -> str:
    """my.cnf"""
    cloud = plan.cloud
    return ini(
        {
            "mariadbd": {
                "datadir": cloud.lib / "mariadb",
                "tmpdir": cloud.lib / "mariadb.tmp",
                "socket": socket(plan),
                "pid_file": cloud.run / "mariadb" / "mariadb.pid",
                "skip_networking": 1,
                "skip_log_bin": 1,
                "character_set_server": "utf8mb3",
                "max_connections": 300,
                # 2: a killed mariadbd loses nothing, a power cut at most a second
                "innodb_flush_log_at_trx_commit": 2,
                "innodb_buffer_pool_size": "48M",
                "innodb_log_file_size": "48M",
                # By io_uring, which host/confinement.py forbids.
                "innodb_use_native_aio": 0,
                "innodb_log_buffer_size": "4M",
                "key_buffer_size": "1M",
                "aria_pagecache_buffer_size": "8M",
                "table_open_cache": 1000,
                "performance_schema": 0,
                # Threads that idle keep their stacks; the services pool connections.
                "thread_cache_size": 8,
            }
        }
    )


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    config, data = cloud.etc / "mariadb" / "my.cnf", cloud.lib / "mariadb"

    def install(step: Step) -> None:
        """mariadb-install-db into a folder aside, renamed when whole."""
        if data.exists():
            return
        aside = data.with_name("mariadb.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        shutil.chown(aside, USER, USER)
        step.run(
            [
                *("mariadb-install-db", f"--defaults-file={config}", f"--datadir={aside}"),
                *(f"--user={USER}", "--auth-root-authentication-method=socket"),
                *("--auth-root-socket-user=root", "--skip-test-db", "--skip-name-resolve"),
            ]
        )
        os.sync()
        aside.rename(data)

    return Service(
        MARIADB,
        command=["mariadbd", f"--defaults-file={config}"],
        user=USER,
        folders=(
            Folder(config.parent, USER, USER),
            Folder(cloud.run / "mariadb", USER, GROUP, 0o750),
            Folder(cloud.lib / "mariadb.tmp", USER, USER, 0o700),
        ),
        files=(
            File(
                config,
                _options(plan),
                owner=USER,
            ),
        ),
        prepare=install,
        ready=accepting(socket(plan)),
        listens="unix",
        stop_seconds=30,
    )


MARIADB = Definition(
    name="mariadb",
    title="Database (MariaDB)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    needs=(
        Need.DATABASE_DUMP,
        Need.DATABASE_CLIENT,
        Need.DATABASE,
    ),
    foundation=True,
)
