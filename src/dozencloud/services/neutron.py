"""OpenStack Neutron with ML2/OVN: networks, ports, routers, security groups."""

from __future__ import annotations

from collections.abc import Mapping

from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Unconfined
from dozencloud.host.distributions.needs import Need
from dozencloud.host.network import switching
from dozencloud.services import privsep
from dozencloud.services.accounts import SERVER_EVENTS, SERVICE, TOKEN_CHECK
from dozencloud.services.options import (
    LOG_OPTIONS,
    NO_NOTIFICATIONS,
    broker_url,
    credentials,
    database_options,
    ini,
    policy_file,
    policy_option,
    token_check,
)
from dozencloud.supervision.ready import answers, running_since
from dozencloud.supervision.service import (
    GROUP,
    Account,
    Api,
    Definition,
    File,
    Folder,
    Service,
    Tool,
    api_folders,
    api_socket,
    python_main,
    python_wsgi,
)

USER = "dozen-neutron"
METADATA_USER = "dozen-metadata"
"""haproxy in each network, which speaks to servers, runs as this user."""
RULES: Mapping[str, str] = {
    # Nova shows the floating IPs of a server, which it looks up with its own account.
    "get_floatingip": "(rule:admin_only) or (role:reader and project_id:%(project_id)s) "
    f"or role:{SERVICE}",
}
"""Who may what, where it is not what upstream says."""
FILES = ("neutron.conf", "ml2_conf.ini")
SERVICE_PLUGINS = ("ovn-router", "port_forwarding", "qos", "trunk", "log", "segments", "pvlan")
"""Beside those that Neutron always loads: what OVN carries (neutron/common/ovn/extensions.py)."""
EXTENSION_DRIVERS = ("port_security", "dns_domain_keywords", "qos")
PRIVSEP_SECTIONS = (
    *("privsep", "privsep_dhcp_release", "privsep_ovs_vsctl"),
    *("privsep_namespace", "privsep_conntrack", "privsep_link"),
)
"""One for each context in neutron/privileged/__init__.py."""


def _config(plan: Plan) -> tuple[tuple[Folder, ...], tuple[File, ...]]:
    cloud = plan.cloud
    etc, state = cloud.etc / "neutron", cloud.lib / "neutron"
    neutron: dict[str, dict[str, object]] = {
        "DEFAULT": {
            **LOG_OPTIONS,
            "host": plan.node.name,
            "state_path": state,
            "core_plugin": "ml2",
            "service_plugins": SERVICE_PLUGINS,
            "auth_strategy": "keystone",
            "transport_url": broker_url(plan),
            "api_paste_config": plan.share("neutron", "api-paste.ini"),
            # OVN speaks to its agents by its databases, not by RPC.
            "rpc_workers": 0,
            "rpc_state_report_workers": 0,
            "notify_nova_on_port_status_changes": True,
            "notify_nova_on_port_data_changes": True,
            # s, the least that it takes; 2 by default, for which every new server would wait
            "send_events_interval": 1,
            "dns_domain": "dozen.",
            # Networks of projects are smaller by what a tunnel adds: 58 bytes.
            "global_physnet_mtu": plan.node.mtu,
            "vlan_transparent": True,
        },
        "database": database_options(plan, "neutron"),
        "nova": credentials(plan, "neutron") | {"endpoint_type": "internal"},
        "oslo_concurrency": {"lock_path": state / "lock"},
        "oslo_messaging_notifications": NO_NOTIFICATIONS,
        "oslo_policy": policy_option(plan, "neutron"),
        "keystone_authtoken": token_check(plan, "neutron"),
    }
    ml2: dict[str, dict[str, object]] = {
        "ml2": {
            "type_drivers": "flat,geneve",
            "tenant_network_types": "geneve",
            "mechanism_drivers": "ovn",
            "extension_drivers": EXTENSION_DRIVERS,
            "overlay_ip_version": 4,
        },
        "ml2_type_flat": {"flat_networks": "public"},
        "ml2_type_geneve": {"vni_ranges": "1:65536", "max_header_size": 38},
        "securitygroup": {"enable_security_group": True},
        "ovn": {
            "ovn_nb_connection": f"unix:{switching.northbound_socket(cloud)}",
            "ovn_sb_connection": f"unix:{switching.southbound_socket(cloud)}",
            "ovn_metadata_enabled": True,
            # Only the controller has the network of the floating IPs.
            "enable_distributed_floating_ip": False,
            "ovn_l3_scheduler": "leastloaded",
            "ovn_emit_need_to_frag": True,
            "dns_servers": plan.cloud.settings.network.dns,
        },
    }
    return (Folder(etc, USER, USER), Folder(state, USER, GROUP)), (
        File(etc / FILES[0], ini(neutron), owner=USER),
        File(etc / FILES[1], ini(ml2), owner=USER),
        policy_file(plan, "neutron", USER, RULES),
    )


def _temporary(plan: Plan, service: str) -> Folder:
    """For the files by which processes agree who is first: their names can be guessed."""
    return Folder(plan.cloud.run / service, USER, USER)


def _environment(plan: Plan, temporary: Folder) -> dict[str, str]:
    return {
        "TMPDIR": str(temporary.path),
        "OS_NEUTRON_CONFIG_DIR": str(plan.cloud.etc / "neutron"),
        "OS_NEUTRON_CONFIG_FILES": ";".join(FILES),
    }


def api(plan: Plan) -> Service:
    folders, files = _config(plan)
    temporary = _temporary(plan, "neutron")
    return Service(
        API,
        command=python_wsgi(plan, API, "dozencloud.hooks.neutronapi:application"),
        user=USER,
        environment={
            **_environment(plan, temporary),
            # How it learns its number of workers outside uwsgi; it fails without.
            "ASGI_WORKERS": "1",
        },
        folders=(*folders, temporary, *api_folders(plan.cloud, API, USER)),
        files=files,
        after=("mariadb", "memcached", "ovn-nb", "ovn-sb"),
        ready=answers(plan.cloud, "neutron", "/network/"),
    )


def maintenance(plan: Plan) -> Service:
    folders, files = _config(plan)
    temporary = _temporary(plan, "neutron-maintenance")
    etc = plan.cloud.etc / "neutron"
    arguments = [word for name in FILES for word in ("--config-file", str(etc / name))]
    return Service(
        MAINTENANCE,
        command=python_main(plan, "neutron.cmd.server:main_ovn_maintenance", *arguments),
        user=USER,
        environment=_environment(plan, temporary),
        folders=(*folders, temporary),
        files=files,
        # Compares all of OVN with the database at its start: not while a server is waited for.
        after=("mariadb", "ovn-nb", "ovn-sb", "neutron", "nova-compute"),
        nice=10,
        ready=running_since(plan.cloud, "neutron-maintenance", seconds=1),
    )


def agent(plan: Plan) -> Service:
    """Root: it makes a network namespace with a metadata proxy for every network.

    The proxy becomes METADATA_USER, in the folder of its network.
    """
    cloud = plan.cloud
    path, state = cloud.etc / "ovn-agent" / "agent.ini", cloud.lib / "ovn-agent"
    networks = cloud.run / "ovn-agent" / "networks"
    helper = privsep.helper_command(plan, path)
    path_variable = f"{plan.environment}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    sections: dict[str, dict[str, object]] = {
        "DEFAULT": {
            **LOG_OPTIONS,
            "host": plan.node.name,
            "state_path": state,
            "metadata_proxy_user": METADATA_USER,
            "metadata_proxy_group": METADATA_USER,
            "metadata_proxy_shared_secret": plan.secrets["metadata"],
        },
        "agent": {
            "extensions": "metadata",
            "root_helper": f"/usr/bin/env PATH={path_variable}",
        },
        "dozencloud": {
            "nova_metadata": api_socket(cloud, "nova-metadata"),
            "networks": networks,
        },
        **{name: {"helper_command": helper} for name in PRIVSEP_SECTIONS},
        "ovn": {"ovn_sb_connection": f"unix:{switching.southbound_socket(cloud)}"},
        "ovs": {"ovsdb_connection": f"unix:{switching.switch_socket(cloud)}"},
        "oslo_concurrency": {"lock_path": state / "lock"},
    }
    return Service(
        AGENT,
        command=python_main(plan, "dozencloud.hooks.ovnagent:main", "--config-file", str(path)),
        folders=(
            *(Folder(path.parent), Folder(state), Folder(networks.parent)),
            # Each of the folders in it is all that one haproxy sees (chroot).
            Folder(networks, mode=0o711),
        ),
        confinement=Unconfined("makes network namespaces, and proxies in them"),
        files=(File(path, ini(sections)),),
        # Its networks come from Neutron, so it has time until that is there.
        after=("ovn-controller", "privsep", "neutron"),
        ready=running_since(cloud, "ovn-agent", seconds=1),
    )


TOOL = Tool("neutron-db-manage", "neutron", FILES, {"neutron": ("upgrade", "heads")})
API = Definition(
    name="neutron",
    title="Networks (Neutron)",
    describe=api,
    roles=frozenset((Role.CONTROL,)),
    api=Api(
        "network",
        # Neutron creates up to hundreds of ports or rules by one request.
        body="1m",
        kind="network",
        name="neutron",
    ),
    rules=RULES,
    tool=TOOL,
    accounts=(
        Account(
            "neutron",
            (TOKEN_CHECK, SERVER_EVENTS),
            "Neutron checks the tokens of its callers, and tells Nova what becomes of ports.",
        ),
    ),
)
MAINTENANCE = Definition(
    name="neutron-maintenance",
    title="Repair of OVN from the database (Neutron)",
    describe=maintenance,
    roles=frozenset((Role.CONTROL,)),
)
AGENT = Definition(
    name="ovn-agent",
    title="Metadata for servers (Neutron OVN agent)",
    describe=agent,
    roles=frozenset((Role.CONTROL,)),
    root="makes a network namespace with a metadata proxy for each network",
    needs=(Need.METADATA, Need.METADATA_RULE),
)
