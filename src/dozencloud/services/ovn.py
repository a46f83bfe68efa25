"""Open vSwitch and OVN: the servers' networks. Unix sockets only.

Options follow ovs-ctl and ovn-ctl of the Debian packages, which cannot be used: they know one
set of paths per machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dozencloud import plumbing
from dozencloud.cloud import INTEGRATION_BRIDGE, Cloud
from dozencloud.graph import Step
from dozencloud.services.base import GROUP, Folder, Plan, Role, Service, accepting

USER = "dozen-ovn"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OVN_SCHEMAS = {"nb": "/usr/share/ovn/ovn-nb.ovsschema", "sb": "/usr/share/ovn/ovn-sb.ovsschema"}


def switch_socket(cloud: Cloud) -> Path:
    return cloud.run / "openvswitch" / "db.sock"


def northbound_socket(cloud: Cloud) -> Path:
    return cloud.run / "ovn" / "nb.sock"


def southbound_socket(cloud: Cloud) -> Path:
    return cloud.run / "ovn" / "sb.sock"


def environment(cloud: Cloud) -> Mapping[str, str]:
    """What makes every Open vSwitch and OVN program look below our own folders."""
    return {
        "OVS_RUNDIR": str(cloud.run / "openvswitch"),
        "OVS_LOGDIR": str(cloud.log),
        "OVS_DBDIR": str(cloud.lib / "openvswitch"),
        "OVN_RUNDIR": str(cloud.run / "ovn"),
        "OVN_LOGDIR": str(cloud.log),
        "OVN_DBDIR": str(cloud.lib / "ovn"),
    }


def vsctl(cloud: Cloud, *words: str) -> list[str]:
    return ["ovs-vsctl", f"--db=unix:{switch_socket(cloud)}", "--timeout=30", *words]


LOGGING = ("-vconsole:info", "-vsyslog:off", "-vfile:off")


def _database(step: Step, path: Path, schema: str, owner: str) -> None:
    """Create the database, or convert it to the schema of the installed packages."""
    as_owner = [] if owner == "root" else ["setpriv", f"--reuid={owner}", f"--regid={GROUP}"]
    as_owner += ["--clear-groups"] if as_owner else []
    if not path.exists():
        step.run([*as_owner, "ovsdb-tool", "create", str(path), schema])
    elif (
        step.run([*as_owner, "ovsdb-tool", "needs-conversion", str(path), schema]).stdout == "yes\n"
    ):
        step.run([*as_owner, "ovsdb-tool", "convert", str(path), schema])


def switch_database(plan: Plan) -> Service:
    cloud = plan.cloud
    socket, data = switch_socket(cloud), cloud.lib / "openvswitch" / "conf.db"

    def settle(step: Step) -> None:
        """What ovs-vswitchd and ovn-controller read at their start."""
        known = {
            "system-id": plan.node.chassis,
            "hostname": plan.node.name,
            "ovn-remote": f"unix:{southbound_socket(cloud)}",
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge": INTEGRATION_BRIDGE,
            "ovn-bridge-mappings": f"public:{cloud.provider_bridge}",
            "ovn-bridge-datapath-type": plan.node.datapath,
            "ovn-cms-options": "enable-chassis-as-gw",
        }
        step.run(vsctl(cloud, "--no-wait", "init"))
        step.run(
            vsctl(
                cloud,
                *("--no-wait", "set", "open", "."),
                *(f"external-ids:{key}={value}" for key, value in known.items()),
                "other_config:vlan-limit=0",
                # Without it TCP dies on the userspace datapath: checksums are never filled in.
                f"other_config:userspace-tso-enable={plan.node.datapath == 'netdev'}".lower(),
            )
        )

    return Service(
        name="ovs-db",
        title="Switch database (Open vSwitch)",
        role=Role.COMPUTE,
        command=[
            *("ovsdb-server", str(data), f"--remote=punix:{socket}"),
            *(f"--unixctl={socket.with_name('ovsdb-server.ctl')}", *LOGGING),
        ],
        environment=environment(cloud),
        folders=(
            Folder(cloud.run / "openvswitch", "root", "root", 0o755),
            Folder(data.parent),
        ),
        prepare=lambda step: _database(step, data, OVS_SCHEMA, "root"),
        settle=settle,
        ready=accepting(socket),
        listens="unix",
    )


def switch(plan: Plan) -> Service:
    cloud = plan.cloud
    control = cloud.run / "openvswitch" / "ovs-vswitchd.ctl"

    def bridges(step: Step) -> None:
        """The provider bridge; ovn-controller makes the integration bridge."""
        bridge, kind = cloud.provider_bridge, plan.node.datapath
        step.run(
            vsctl(
                cloud,
                *("--may-exist", "add-br", bridge),
                *("--", "set", "bridge", bridge, f"datapath_type={kind}"),
                *("fail-mode=standalone", f"external-ids:dozen={cloud.name}"),
            )
        )
        address = f"{cloud.provider_gateway}/{cloud.provider.prefixlen}"
        step.run(plumbing.ip(cloud, "address", "replace", address, "dev", bridge))
        step.run(plumbing.ip(cloud, "link", "set", bridge, "up"))

    return Service(
        name="ovs-switch",
        title="Switch (Open vSwitch)",
        role=Role.COMPUTE,
        command=[
            *("ovs-vswitchd", f"unix:{switch_socket(cloud)}", f"--unixctl={control}"),
            *(f"--pidfile={control.with_name('ovs-vswitchd.pid')}", "--overwrite-pidfile"),
            *LOGGING,
        ],
        environment=environment(cloud),
        after=("ovs-db",),
        settle=bridges,
        ready=accepting(control),
    )


def _ovn_database(plan: Plan, kind: str, title: str) -> Service:
    cloud = plan.cloud
    data, socket = cloud.lib / "ovn" / f"{kind}.db", cloud.run / "ovn" / f"{kind}.sock"
    return Service(
        name=f"ovn-{kind}",
        title=title,
        role=Role.CONTROL,
        command=[
            *("ovsdb-server", str(data), f"--remote=punix:{socket}"),
            *(f"--unixctl={socket.with_suffix('.ctl')}", *LOGGING),
        ],
        user=USER,
        environment=environment(cloud),
        folders=(
            # setgid: Neutron is in that group, and so becomes the socket.
            Folder(cloud.run / "ovn", USER, GROUP, 0o2750),
            Folder(data.parent, USER, USER),
        ),
        prepare=lambda step: _database(step, data, OVN_SCHEMAS[kind], USER),
        ready=accepting(socket),
        listens="unix",
    )


def northbound(plan: Plan) -> Service:
    return _ovn_database(plan, "nb", "Networks as wished (OVN northbound)")


def southbound(plan: Plan) -> Service:
    return _ovn_database(plan, "sb", "Networks as flows (OVN southbound)")


def northd(plan: Plan) -> Service:
    cloud = plan.cloud
    control = cloud.run / "ovn" / "northd.ctl"
    return Service(
        name="ovn-northd",
        title="Networks to flows (OVN northd)",
        role=Role.CONTROL,
        command=[
            *("ovn-northd", f"--ovnnb-db=unix:{northbound_socket(cloud)}"),
            *(f"--ovnsb-db=unix:{southbound_socket(cloud)}", f"--unixctl={control}", *LOGGING),
        ],
        user=USER,
        environment=environment(cloud),
        after=("ovn-nb", "ovn-sb"),
        ready=accepting(control),
    )


def controller(plan: Plan) -> Service:
    cloud = plan.cloud
    run = cloud.run / "openvswitch"

    def ready() -> bool:
        # It names its control socket by its pid and has no option for that.
        return any(accepting(path)() for path in run.glob("ovn-controller.*.ctl"))

    return Service(
        name="ovn-controller",
        title="Flows of this node (OVN controller)",
        role=Role.COMPUTE,
        command=["ovn-controller", f"unix:{switch_socket(cloud)}", *LOGGING],
        # It looks for the switch's OpenFlow sockets below OVN's own run folder otherwise.
        environment={**environment(cloud), "OVN_RUNDIR": str(run)},
        after=("ovs-switch", "ovn-sb"),
        ready=ready,
    )
