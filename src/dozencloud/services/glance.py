"""OpenStack Glance: the images."""

from __future__ import annotations

from dozencloud.confinement import Confinement
from dozencloud.images import links
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
    api_folder,
    database_options,
    ini,
    policy_file,
    policy_option,
    python_wsgi,
    to_json,
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
            api_folder(cloud, "glance", USER),
            api_folder(cloud, IMAGE_DATA.name, USER),
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
                        "oslo_policy": policy_option(plan, "glance"),
                        "keystone_authtoken": token_check(plan, "glance"),
                    }
                ),
                owner=USER,
            ),
            policy_file(plan, "glance", USER),
            # Glance looks for it beside its configuration.
            File(etc / "schema-image.json", to_json(links.SCHEMA), owner=USER),
        ),
        # Image inspection takes namespaces and an empty root folder (images/inspection/cage.py).
        confinement=Confinement(calls=("chroot", "unshare")),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "glance", "/image/"),
        listens="/image",
    )
