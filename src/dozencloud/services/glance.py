"""OpenStack Glance: the images."""

from __future__ import annotations

from dozencloud.services.base import (
    IMAGE_DATA,
    LOG_OPTIONS,
    NO_NOTIFICATIONS,
    File,
    Folder,
    Plan,
    Role,
    Service,
    answers,
    database_options,
    ini,
    python_wsgi,
    token_check,
)

USER = "dozen-glance"


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    etc, data = cloud.etc / "glance", cloud.lib / "glance"
    stores = {name: data / name for name in ("images", "staging", "tasks")}
    return Service(
        name="glance",
        title="Images (Glance)",
        role=Role.CONTROL,
        command=python_wsgi(plan, "glance", "glance.wsgi.api:application", "/image", IMAGE_DATA),
        user=USER,
        environment={"OS_GLANCE_CONFIG_DIR": str(etc)},
        folders=(
            Folder(etc, USER, USER),
            Folder(data, USER, USER),
            *(Folder(folder, USER, USER) for folder in stores.values()),
        ),
        files=(
            File(
                etc / "glance-api.conf",
                ini(
                    {
                        "DEFAULT": {
                            **LOG_OPTIONS,
                            "enabled_backends": "local:file",
                            "enabled_import_methods": "[glance-direct,web-download]",
                            "worker_self_reference_url": f"{cloud.internal_url}/image",
                            "show_multiple_locations": False,
                        },
                        "database": database_options(plan, "glance"),
                        "glance_store": {"default_backend": "local"},
                        "image_import_opts": {"image_import_plugins": "[dozen_inspect]"},
                        "local": {"filesystem_store_datadir": stores["images"]},
                        "os_glance_staging_store": {"filesystem_store_datadir": stores["staging"]},
                        "os_glance_tasks_store": {"filesystem_store_datadir": stores["tasks"]},
                        "oslo_concurrency": {"lock_path": data / "lock"},
                        "paste_deploy": {
                            "flavor": "keystone",
                            "config_file": plan.share("glance", "glance-api-paste.ini"),
                        },
                        "oslo_messaging_notifications": NO_NOTIFICATIONS,
                        "keystone_authtoken": token_check(plan, "glance"),
                    }
                ),
                owner=USER,
            ),
        ),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "glance", "/image/"),
        listens="/image",
    )
