"""OpenStack Placement: counts what each node has and what is taken."""

from __future__ import annotations

from dozencloud.cloud.plan import Plan
from dozencloud.services.options import LOG_OPTIONS, database_options, ini, token_check
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import File, Folder, Role, Service, api_folder, python_wsgi

USER = "dozen-placement"


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    etc = cloud.etc / "placement"
    options = database_options(plan, "placement")
    return Service(
        name="placement",
        title="Inventory (Placement)",
        role=Role.CONTROL,
        command=python_wsgi(plan, "placement", "placement.wsgi.api:application", "/placement"),
        user=USER,
        environment={"OS_PLACEMENT_CONFIG_DIR": str(etc)},
        folders=(Folder(etc, USER, USER), api_folder(cloud, "placement", USER)),
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
        listens="/placement",
    )
