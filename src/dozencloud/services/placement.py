"""OpenStack Placement: counts what each node has and what is taken."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan, Role
from dozencloud.services.accounts import TOKEN_CHECK
from dozencloud.services.options import LOG_OPTIONS, database_options, ini, token_check
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import (
    Account,
    Api,
    Definition,
    File,
    Folder,
    Service,
    Tool,
    api_folders,
    python_wsgi,
)

USER = "dozen-placement"


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    etc = cloud.etc / "placement"
    options = database_options(plan, "placement")
    return Service(
        PLACEMENT,
        command=python_wsgi(plan, PLACEMENT, "placement.wsgi.api:application"),
        user=USER,
        environment={"OS_PLACEMENT_CONFIG_DIR": str(etc)},
        folders=(Folder(etc, USER, USER), *api_folders(cloud, PLACEMENT, USER)),
        files=(
            File(
                etc / "placement.conf",
                ini(
                    {
                        "DEFAULT": LOG_OPTIONS,
                        "api": {"auth_strategy": "keystone"},
                        "placement_database": options,
                        "keystone_authtoken": token_check(plan, "placement"),
                    }
                ),
                owner=USER,
            ),
        ),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "placement", "/placement/"),
    )


PLACEMENT = Definition(
    name="placement",
    title="Inventory (Placement)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    api=Api("placement", body="1m", kind="placement", name="placement"),
    tool=Tool(
        "placement-manage",
        "placement",
        ("placement.conf",),
        {"placement": ("db", "sync")},
        online=(("db", "online_data_migrations"),),
    ),
    accounts=(Account("placement", (TOKEN_CHECK,), "Placement checks the tokens of its callers."),),
)
