"""OpenStack Nova: the servers. API, metadata, conductor and scheduler; compute on every node."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import CONSOLE_USER, INTEGRATION_BRIDGE, REGION
from dozencloud.cloud.plan import Node, Plan, Role
from dozencloud.cloud.settings import SERIAL_PORTS
from dozencloud.host.confinement import Unconfined
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.services import libvirt, privsep
from dozencloud.services.accounts import SERVER_EVENTS, SERVICE
from dozencloud.services.options import (
    LOG_OPTIONS,
    NO_NOTIFICATIONS,
    broker_over_tls,
    broker_url,
    credentials,
    database_options,
    ini,
    policy_file,
    policy_option,
    token_check,
)
from dozencloud.supervision.ready import answers, connected_to, listening
from dozencloud.supervision.service import (
    Account,
    Api,
    Definition,
    File,
    Folder,
    Service,
    Tool,
    api_folders,
    python_main,
    python_wsgi,
)

USER = CONSOLE_USER
PASTE = "api-paste.ini"
AFTER = ("mariadb", "memcached")
SENDS = "nova-sends"
"""Nova sends its token with a user's (X-Service-Token): to Glance and Neutron, which so take a
user's token that has expired meanwhile. So others hold it, and it opens nothing else of Nova's."""
RULES: Mapping[str, str] = {
    "os_compute_api:os-server-external-events:create": "rule:service_or_admin "
    f"or role:{SERVER_EVENTS}",
    # Cinder's.
    "os_compute_api:os-assisted-volume-snapshots:create": "rule:context_is_admin",
    "os_compute_api:os-assisted-volume-snapshots:delete": "rule:context_is_admin",
    "os_compute_api:os-volumes-attachments:swap": "rule:context_is_admin",
}
"""Who may what, where it is not what upstream says."""


def _common(plan: Plan, state: Path) -> dict[str, dict[str, object]]:
    cloud, public = plan.cloud, public_url(plan)
    sections: dict[str, dict[str, object]] = {
        "DEFAULT": {
            **LOG_OPTIONS,
            "host": plan.node.name,
            "my_ip": "127.0.0.1" if plan.controls else plan.given.address,
            "state_path": state,
            "transport_url": broker_url(plan),
            # The default of all but nova-serialproxy, whose is eventlet.
            "concurrency_backend": "threading",
            # SIGTERM otherwise leaves the old process to race its successor for a minute; all of
            # these seconds pass even where nothing is left to do.
            "graceful_shutdown_timeout": 2,
            "manager_shutdown_timeout": 1,
        },
        "glance": _glance(plan),
        "placement": credentials(plan, "nova"),
        "service_user": {"send_service_user_token": True, **credentials(plan, SENDS)},
        "neutron": {**credentials(plan, "nova"), "ovs_bridge": INTEGRATION_BRIDGE},
        "serial_console": {
            "enabled": True,
            "base_url": f"wss://{public.removeprefix('https://')}/console/serial/socket",
            "port_range": ":".join(map(str, SERIAL_PORTS)),
            "serialproxy_host": "127.0.0.1",
            "serialproxy_port": cloud.settings.internal.consoles,
        },
        "vnc": {
            "enabled": cloud.settings.compute.screens,
            "novncproxy_base_url": f"{public}/console/vnc/",
        },
        "oslo_concurrency": {"lock_path": state / "lock"},
        "oslo_messaging_notifications": NO_NOTIFICATIONS,
    }
    if not plan.controls:
        sections["oslo_messaging_rabbit"] = broker_over_tls(plan)
        # A node may not call the scheduler, which asks the database where a compute is silent.
        sections["filter_scheduler"] = {"track_instance_changes": False}
    return sections


def _glance(plan: Plan) -> dict[str, object]:
    """Nova asks for images with the token of the user who asked for the server."""
    if plan.controls:
        return {
            "region_name": REGION,
            "valid_interfaces": "internal",
            "endpoint_override": f"{plan.cloud.internal_url}/image",
        }
    return {
        "region_name": REGION,
        "valid_interfaces": "public",
        "endpoint_override": f"{plan.given.controller}/image",
        "cafile": plan.cloud.ca,
    }


def public_url(plan: Plan) -> str:
    """The gateway of the cloud that this machine belongs to."""
    return plan.cloud.public_url if plan.controls else plan.given.controller


def _control_config(plan: Plan) -> tuple[tuple[Folder, ...], tuple[File, ...]]:
    etc, state = plan.cloud.etc / "nova", plan.cloud.lib / "nova"
    sections = _common(plan, state)
    sections["neutron"] |= {
        "service_metadata_proxy": True,
        "metadata_proxy_shared_secret": plan.secrets["metadata"],
    }
    sections |= {
        "api": {"auth_strategy": "keystone"},
        "api_database": database_options(plan, "nova_api", "nova"),
        "database": database_options(plan, "nova", "nova"),
        "wsgi": {"api_paste_config": etc / PASTE},
        # Nodes of the release before hear no call that their nova-compute does not know.
        "upgrade_levels": {"compute": "auto"},
        "conductor": {"workers": 1},
        "scheduler": {
            "workers": 1,
            # New nodes appear without a manual `nova-manage cell_v2 discover_hosts`.
            "discover_hosts_in_cells_interval": 3,
            # It would demand the processor itself (HW_ARCH_*), so that nothing could be emulated,
            # and for armv7l a trait that does not exist. The images' own required traits and
            # ImagePropertiesFilter choose among hosts.
            "image_metadata_prefilter": False,
            # One round over Placement is enough for a cloud of tens of nodes.
            "max_placement_results": 100,
        },
        "filter_scheduler": {
            "weight_classes": [
                "nova.scheduler.weights.all_weighers",
                "dozencloud.compute.scheduling.weigher.HardwareWeigher",
            ],
        },
        "quota": {"count_usage_from_placement": True},
        "dozencloud": {
            "node_consoles": plan.cloud.settings.internal.node_consoles,
            "migration": plan.cloud.settings.nodes.migration,
        },
        "keystone_authtoken": token_check(plan, "nova"),
        "oslo_policy": policy_option(plan, "nova"),
    }
    sections["DEFAULT"] |= {
        "allow_resize_to_same_host": True,
        # A compute whose report got no answer reports again after 60 s (rpc_response_timeout) and
        # 10 (report_interval): it is not down for that.
        "service_down_time": 90,
        # Spreads the periodic tasks of many schedulers over a minute; a new node would wait for
        # the first look at it that long.
        "periodic_fuzzy_delay": 0,
    }
    folders = (Folder(etc, USER, USER), Folder(state, USER, USER))
    return folders, (
        File(etc / "nova.conf", ini(sections), owner=USER),
        # nova/api/openstack/wsgi_app.py looks for it beside nova.conf, whatever [wsgi] says.
        File(etc / PASTE, plan.share("nova", PASTE).read_text(), owner=USER),
        policy_file(plan, "nova", USER, RULES),
    )


def _config_argument(plan: Plan) -> tuple[str, str]:
    return ("--config-file", str(plan.cloud.etc / "nova" / "nova.conf"))


def api(plan: Plan) -> Service:
    folders, files = _control_config(plan)
    return Service(
        API,
        command=python_wsgi(plan, API, "dozencloud.hooks.nova.api:application"),
        user=USER,
        environment={"OS_NOVA_CONFIG_DIR": str(plan.cloud.etc / "nova")},
        folders=(*folders, *api_folders(plan.cloud, API, USER)),
        files=files,
        after=AFTER,
        ready=answers(plan.cloud, "nova-api", "/compute/"),
    )


def metadata(plan: Plan) -> Service:
    folders, files = _control_config(plan)
    return Service(
        METADATA,
        command=python_wsgi(plan, METADATA, "dozencloud.hooks.nova.metadata:application"),
        user=USER,
        environment={"OS_NOVA_CONFIG_DIR": str(plan.cloud.etc / "nova")},
        folders=(*folders, *api_folders(plan.cloud, METADATA, USER)),
        files=files,
        after=AFTER,
        ready=answers(plan.cloud, "nova-metadata", "/"),
        listens="unix",
    )


def _worker(plan: Plan, service: Definition, main: str) -> Service:
    """A process that takes its work from the broker."""
    folders, files = _control_config(plan)
    return Service(
        service,
        command=python_main(plan, main, *_config_argument(plan)),
        user=USER,
        folders=folders,
        files=files,
        after=(*AFTER, "rabbitmq"),
        ready=connected_to(plan.cloud, service.name, plan.cloud.settings.internal.broker),
    )


def conductor(plan: Plan) -> Service:
    return _worker(plan, CONDUCTOR, "dozencloud.hooks.nova.conductor:main")


def scheduler(plan: Plan) -> Service:
    return _worker(plan, SCHEDULER, "dozencloud.compute.scheduling.scheduler:main")


def consoles(plan: Plan) -> Service:
    """The way from the gateway to the serial lines and screens of servers.

    nova-serialproxy does for screens what nova-novncproxy does: a token names the port, whatever
    speaks there. To other machines the gateway adds TLS.
    """
    folders, files = _control_config(plan)
    port = plan.cloud.settings.internal.consoles
    return Service(
        CONSOLES,
        command=python_main(
            plan, "dozencloud.hooks.nova.consoleproxy:main", *_config_argument(plan)
        ),
        user=USER,
        folders=folders,
        files=files,
        after=(*AFTER, "rabbitmq"),
        ready=listening(plan.cloud, port),
        listens=f"127.0.0.1:{port}",
    )


def instances(plan: Plan) -> Path:
    """Disks and console logs of the servers on this node."""
    return plan.cloud.lib / "compute" / "instances"


def close_instances(plan: Plan) -> None:
    """Give what a release before left open to everybody to QEMU's group only."""
    group = grp.getgrnam(libvirt.USER).gr_gid
    snapshots = instances(plan) / "snapshots"
    for place, folders, names in os.walk(instances(plan)):
        if Path(place) == snapshots:
            folders.clear()
            continue
        for path in (Path(place, name) for name in (*folders, *names)):
            with suppress(FileNotFoundError):  # Nova's servers come and go
                _close(path, group)


def _close(path: Path, group: int) -> None:
    about = path.lstat()
    if not about.st_mode & stat.S_IRWXO or path.is_symlink() or path.name == "snapshots":
        return
    if about.st_gid == 0:
        os.chown(path, -1, group)
    more = stat.S_ISGID | stat.S_IXGRP if stat.S_ISDIR(about.st_mode) else 0
    path.chmod(stat.S_IMODE(about.st_mode) & ~stat.S_IRWXO | stat.S_IRGRP | more)


def _compute_config(plan: Plan, path: Path) -> File:
    """path: of the file, which the privileged helpers read, too."""
    cloud = plan.cloud
    given = None if plan.controls else plan.given
    helper = privsep.helper_command(plan, path)
    sections = _common(plan, cloud.lib / "compute")
    sections["DEFAULT"] |= {
        "compute_driver": "dozencloud.ArmLibvirtDriver",
        "instances_path": instances(plan),
        "reserved_host_memory_mb": cloud.settings.compute.reserved_memory,
        "initial_cpu_allocation_ratio": 16.0,
        # `dozen stop` and a reboot of the machine: servers that ran run again.
        "resume_guests_state_on_host_boot": True,
        "running_deleted_instance_action": "reap",
        "vif_plugging_timeout": 120,
        "allow_resize_to_same_host": True,
    }
    if given:
        # The metadata agent would need a secret that opens the metadata of every server.
        sections["DEFAULT"]["force_config_drive"] = True
    # The power button does nothing in a server that has just started, so it is pressed again and
    # again: with the default of 10 s, which are 11, several of a slow start's seconds are lost.
    sections["compute"] = {"shutdown_retry_interval": 2}
    if plan.node.dedicated_cpus:
        sections["compute"] |= {
            "cpu_dedicated_set": plan.node.dedicated_cpus,
            "cpu_shared_set": plan.node.shared_cpus,
        }
    sections |= {
        "dozencloud": {
            "hang_seconds": cloud.settings.compute.hang_seconds,
            "firmware_armv7": [
                f"{code}:{variables}" for code, variables in registry.here().paths.firmware_armv7
            ],
            **({"console_address": given.address} if given else {}),
        },
        "libvirt": _libvirt(plan.node, cloud.libvirt_uri) | _migration(plan),
        # dozencloud/compute/libvirt/equal.py compares; libvirt cannot on ARM, and QEMU does on x86
        # (https://bugs.launchpad.net/nova/+bug/2039803).
        "workarounds": {"skip_cpu_compare_on_dest": True},
        # The console kind by which our driver offers gdb's connection: `dozen debug`.
        "mks": {
            "enabled": True,
            "mksproxy_base_url": f"{public_url(plan)}/console/serial/socket",
        },
        "key_manager": {"backend": "nova.keymgr.conf_key_mgr.ConfKeyManager"},
        "privsep_osbrick": {"helper_command": helper},
        "vif_plug_ovs_privileged": {"helper_command": helper},
        "nova_sys_admin": {"helper_command": helper},
        "os_vif_ovs": {"ovsdb_connection": f"unix:{cloud.run}/openvswitch/db.sock"},
    }
    return File(path, ini(sections))


def compute(plan: Plan) -> Service:
    """Root, as libvirtd is: it creates network devices and writes the disks of servers.

    It gets no database password; it asks the conductor.
    """
    cloud, state = plan.cloud, plan.cloud.lib / "compute"
    given = None if plan.controls else plan.given
    path = cloud.etc / "compute" / "nova.conf"
    main = "dozencloud.compute.joined.onnode:main" if given else "nova.cmd.compute:main"
    return Service(
        COMPUTE,
        command=python_main(plan, main, "--config-file", str(path)),
        folders=(
            Folder(cloud.etc / "compute"),
            # QEMU's own user passes through to the disks that libvirt gives it, nobody else.
            Folder(state, group=libvirt.USER, mode=0o710),
            # 2: what Nova makes in it belongs to QEMU's group, which may read it.
            Folder(instances(plan), group=libvirt.USER, mode=0o2710),
            # Nova lets all users pass to each of its folders here, but not this group.
            Folder(instances(plan) / "snapshots", group="root", mode=0o711),
        ),
        files=(_compute_config(plan, path),),
        # It asks all of these while it starts, and an answer that does not come costs it 10-60 s.
        after=(
            *("rabbitmq", "nova-conductor", "keystone", "placement", "gateway"),
            *("libvirtd", "ovn-controller", "port-guard", "privsep", "accounts"),
        ),
        ready=connected_to(cloud, "nova-compute", given.broker, given.host)
        if given
        else connected_to(cloud, "nova-compute", cloud.settings.internal.broker),
        prepare=lambda step: close_instances(plan),
        # QEMU's group reads, and enters, what Nova makes below `instances`.
        umask=0o027,
        confinement=Unconfined("makes network devices, and mounts config drives and disks"),
        stop_seconds=15,
    )


def _migration(plan: Plan) -> dict[str, object]:
    """How servers go to another node, where nodes trust each other."""
    given = plan.trusting
    if given is None:
        return {}
    keys = str(libvirt.peers(plan.cloud)).replace("%", "%%")
    return {
        # With the scheme alone libvirt would look for certificates in /etc/pki.
        "live_migration_uri": f"qemu+tls://%s/system?pkipath={keys}",
        "live_migration_inbound_addr": given.address,
        "live_migration_with_native_tls": True,
    }


def _libvirt(node: Node, uri: str) -> dict[str, object]:
    options: dict[str, object] = {
        "connection_uri": uri,
        "virt_type": node.virt_type,
        "images_type": "qcow2",
        "inject_partition": -2,
        # Of emulated servers: 256 MiB of translated code instead of 1 GiB.
        "tb_cache_size": 256,
        # Each device of a server takes one; some 5 are left for plugging in. With 16, 32-bit
        # firmware (AAVMF32 of Debian 12) finds no device at all; with 15 it does.
        "num_pcie_ports": 14,
        # A server that cannot hear the power button would hold every stop for a minute.
        "wait_soft_reboot_seconds": 15,
    }
    if node.virt_type == "kvm":
        options["cpu_mode"] = "host-passthrough"
    else:
        options["cpu_mode"] = "none"
    return options


# Nova fills these in from each process's own configuration, so that the cell mappings hold no
# password (nova/objects/cell_mapping.py, "cell mapping template").
CELL_DATABASE = "{scheme}://{username}:{password}@{hostname}/{path}?{query}"
CELL0_DATABASE = CELL_DATABASE.replace("{path}", "nova_cell0")
CELL_BROKER = "{scheme}://{username}:{password}@{hostname}:{port}/{path}"


def _cells(plan: Plan, database: str) -> tuple[tuple[str, ...], ...]:
    if database != "nova_api":
        return ()
    return (
        ("cell_v2", "map_cell0", "--database_connection", CELL0_DATABASE),
        (
            *("cell_v2", "create_cell", "--name", "cell1"),
            *("--database_connection", CELL_DATABASE, "--transport-url", CELL_BROKER),
        ),
    )


API = Definition(
    name="nova-api",
    title="Servers (Nova API)",
    describe=api,
    roles=frozenset((Role.CONTROL,)),
    api=Api(
        "compute",
        # 64 KiB of user data; what is beyond 112 KiB Nova itself refuses (oslo.middleware).
        body="256k",
        kind="compute",
        name="nova",
        version="/v2.1",
    ),
    rules=RULES,
    tool=Tool(
        "nova-manage",
        "nova",
        ("nova.conf",),
        {
            "nova_api": ("api_db", "sync"),
            # It sees to that of each cell.
            "nova_cell0": ("db", "sync"),
            "nova": ("db", "sync"),
        },
        first=_cells,
        online=(("db", "online_data_migrations"),),
    ),
    accounts=(
        Account(
            "nova",
            (SERVICE,),
            "Nova checks the tokens of its callers, plugs servers into ports, and keeps "
            "Placement's books.",
        ),
        Account(SENDS, (SERVICE,), "Its token goes along with a user's, when Nova calls others."),
    ),
)
METADATA = Definition(
    name="nova-metadata",
    title="Server metadata (Nova)",
    describe=metadata,
    roles=frozenset((Role.CONTROL,)),
)
CONDUCTOR = Definition(
    name="nova-conductor",
    title="Database proxy of the computes (Nova conductor)",
    describe=conductor,
    roles=frozenset((Role.CONTROL,)),
)
SCHEDULER = Definition(
    name="nova-scheduler",
    title="Choice of the node (Nova scheduler)",
    describe=scheduler,
    roles=frozenset((Role.CONTROL,)),
)
CONSOLES = Definition(
    name="nova-consoles",
    title="Consoles of servers (Nova)",
    describe=consoles,
    roles=frozenset((Role.CONTROL,)),
)
COMPUTE = Definition(
    name="nova-compute",
    title="Servers of this node (Nova compute)",
    describe=compute,
    roles=frozenset((Role.COMPUTE,)),
    root="makes network devices and the disks of servers; has no database password",
    needs=(
        Need.CONFIG_DRIVES,
        Need.LIBVIRT_PYTHON,
        Need.DISKS,
    ),
)
