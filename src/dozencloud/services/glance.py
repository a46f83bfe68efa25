"""OpenStack Glance: the images."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress

from dozencloud.cloud.installation import LINKS, REGION, Cloud
from dozencloud.cloud.plan import Plan, Role
from dozencloud.downloads import PORTS, Allowed
from dozencloud.host.confinement import Confinement
from dozencloud.host.distributions.needs import Need
from dozencloud.images import links
from dozencloud.services.accounts import LIMIT_CHECK, TOKEN_CHECK
from dozencloud.services.options import (
    LOG_OPTIONS,
    NO_NOTIFICATIONS,
    credentials,
    database_options,
    ini,
    policy_file,
    policy_option,
    to_json,
    token_check,
)
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import (
    Account,
    Api,
    Definition,
    File,
    Folder,
    Lane,
    Service,
    Tool,
    api_folders,
    python_wsgi,
)

USER = "dozen-glance"
IMAGE_DATA = Lane("glance-data", 320, "dozencloud.hooks.transfers:bounded")
"""Uploads and downloads take as long as their clients like."""
RULES: Mapping[str, str] = {
    # Locations of images' data and of stores: Cinder's.
    "service_api": "role:admin",
}
"""Who may what, where it is not what upstream says."""


def own_networks(cloud: Cloud) -> list[object]:
    """Networks of the cloud, from which no user has it fetch an image."""
    mine: list[object] = [LINKS, cloud.provider, cloud.tenant, cloud.projects]
    with suppress(ValueError):  # a host name: the machine itself knows its addresses
        mine.append(ipaddress.ip_network(cloud.address))
    return mine


def download_ports(cloud: Cloud) -> list[int]:
    """Where upstream's own check lets users' downloads go; ours knows which address each is for."""
    places = [Allowed.parse(each) for each in cloud.settings.image.download_from]
    return sorted({*PORTS.values(), *(each.port for each in places if each.port)})


def limits(plan: Plan) -> dict[str, object]:
    """How Glance asks Keystone what a project may have (oslo.limit).

    Limits of other projects are shown to who reads all of the cloud (`system`), and to no account
    of a project.
    """
    own = credentials(plan, "glance")
    for name in ("project_name", "project_domain_id"):
        del own[name]
    return own | {
        "system_scope": "all",
        "endpoint_service_type": "image",
        "endpoint_region_name": REGION,
        "endpoint_interface": "internal",
    }


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    etc, data = cloud.etc / "glance", cloud.lib / "glance"
    stores = {name: data / name for name in ("images", "staging", "tasks")}
    return Service(
        GLANCE,
        command=python_wsgi(plan, GLANCE, "dozencloud.hooks.glance:application"),
        user=USER,
        environment={"OS_GLANCE_CONFIG_DIR": str(etc)},
        folders=(
            Folder(etc, USER, USER),
            Folder(data, USER, USER),
            *(Folder(folder, USER, USER) for folder in stores.values()),
            *api_folders(cloud, GLANCE, USER),
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
                            "use_keystone_limits": True,
                        },
                        "database": database_options(plan, "glance"),
                        "glance_store": {"default_backend": "local"},
                        "image_import_opts": {"image_import_plugins": "[dozen_inspect]"},
                        "dozencloud": {
                            "download_from": cloud.settings.image.download_from,
                            "own_networks": own_networks(cloud),
                        },
                        "import_filtering_opts": {"allowed_ports": download_ports(cloud)},
                        "oslo_limit": limits(plan),
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
            policy_file(plan, "glance", USER, RULES),
            # Glance looks for it beside its configuration.
            File(etc / "schema-image.json", to_json(links.SCHEMA), owner=USER),
        ),
        # Image inspection takes namespaces and an empty root folder (images/inspection/cage.py).
        confinement=Confinement(calls=("chroot", "unshare")),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "glance", "/image/"),
    )


GLANCE = Definition(
    name="glance",
    title="Images (Glance)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    api=Api(
        "image",
        # Descriptions; image data has a place of its own.
        body="256k",
        kind="image",
        name="glance",
        lane=IMAGE_DATA,
    ),
    rules=RULES,
    tool=Tool("glance-manage", "glance", ("glance-api.conf",), {"glance": ("db_sync",)}),
    accounts=(
        Account(
            "glance",
            (TOKEN_CHECK,),
            "Glance checks the tokens of its callers, and reads what a project may have of images.",
            system=(LIMIT_CHECK,),
        ),
    ),
    needs=(Need.SIGNATURES,),
)
