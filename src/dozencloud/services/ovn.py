"""Open vSwitch and OVN: the servers' networks.

All on Unix sockets, but for the southbound database of a cloud that has nodes: they reach it over
TLS, each with a certificate whose subject is its chassis, in a role that may do little (RBAC).

Options follow ovs-ctl and ovn-ctl of the packages, which cannot be used: they know one
set of paths per machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dozencloud.cloud import tls
from dozencloud.cloud.installation import INTEGRATION_BRIDGE, Cloud
from dozencloud.cloud.membership import nodes_folder
from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import Confinement, Unconfined
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.host.network import namespace, tunnels, uplink
from dozencloud.host.network.switching import (
    environment,
    node_identity,
    northbound_socket,
    southbound_remote,
    southbound_socket,
    switch_socket,
    tunnel_address,
    vsctl,
)
from dozencloud.private import write_private
from dozencloud.services import ovnseries
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import GROUP, Definition, Folder, Service
from dozencloud.tasks.graph import Step

USER = "dozen-ovn"
USERSPACE = Path(__file__).parent / "userspace-switch.sh"
"""Starts a switch that moves packets in user space."""
PROBE = 30_000
"""ms after which a silent peer is asked whether it lives; 5 s is little for a busy board."""


LOGGING = ("-vconsole:info", "-vsyslog:off", "-vfile:off")


def _database(step: Step, path: Path, schema: Path, owner: str) -> None:
    """Create the database, or convert it to the schema of the installed packages."""
    as_owner = [] if owner == "root" else ["setpriv", f"--reuid={owner}", f"--regid={GROUP}"]
    as_owner += ["--clear-groups"] if as_owner else []
    if not path.exists():
        step.run([*as_owner, "ovsdb-tool", "create", str(path), str(schema)])
    elif (
        step.run([*as_owner, "ovsdb-tool", "needs-conversion", str(path), str(schema)]).stdout
        == "yes\n"
    ):
        step.run([*as_owner, "ovsdb-tool", "convert", str(path), str(schema)])


def _chassis(plan: Plan) -> dict[str, str]:
    """What ovn-controller is to know about this node; it follows changes."""
    known = {
        "system-id": plan.node.chassis,
        "hostname": plan.node.name,
        "ovn-remote": southbound_remote(plan),
        "ovn-remote-probe-interval": str(PROBE),
        "ovn-encap-type": plan.encapsulations,
        "ovn-encap-ip": tunnel_address(plan),
        "ovn-bridge": INTEGRATION_BRIDGE,
        "ovn-bridge-datapath-type": plan.node.datapath,
    }
    if plan.controls:
        # Only the controller has a way out: floating IPs of all nodes are its.
        known["ovn-bridge-mappings"] = f"public:{plan.cloud.provider_bridge}"
        known["ovn-cms-options"] = "enable-chassis-as-gw"
    return known


def introduce(plan: Plan, step: Step) -> None:
    """Tell the running ovn-controller, or the one to come, what this node is."""
    known = (f"external-ids:{key}={value}" for key, value in _chassis(plan).items())
    step.run(vsctl(plan.cloud, "--no-wait", "set", "open", ".", *known))


def switch_database(plan: Plan) -> Service:
    cloud = plan.cloud
    socket, data = switch_socket(cloud), cloud.lib / "openvswitch" / "conf.db"

    def settle(step: Step) -> None:
        """What ovs-vswitchd and ovn-controller read at their start."""
        step.run(vsctl(cloud, "--no-wait", "init"))
        introduce(plan, step)
        step.run(
            vsctl(
                cloud,
                *("--no-wait", "set", "open", "."),
                "other_config:vlan-limit=0",
                # Without it TCP dies on the userspace datapath: checksums are never filled in.
                f"other_config:userspace-tso-enable={plan.node.datapath == 'netdev'}".lower(),
            )
        )

    def reload(_pid: int) -> bool:
        """The running ovn-controller takes up what has changed."""
        with Path(os.devnull).open("w") as log:
            introduce(plan, Step(log))
        return True

    return Service(
        SWITCH_DATABASE,
        command=[
            *("ovsdb-server", str(data), f"--remote=punix:{socket}"),
            *(f"--unixctl={socket.with_name('ovsdb-server.ctl')}", *LOGGING),
        ],
        environment=environment(cloud),
        folders=(
            Folder(cloud.run / "openvswitch"),
            Folder(data.parent),
        ),
        reads=(cloud.lib / "node.json",),
        reload=reload,
        prepare=lambda step: _database(step, data, registry.here().paths.switch_schema, "root"),
        settle=settle,
        ready=accepting(socket),
        listens="unix",
    )


def make_bridge(cloud: Cloud, step: Step, name: str, words: Sequence[str]) -> None:
    """Have the switch make the bridge of that name (words: of ovs-vsctl), and wait for its device.

    ovs-vsctl waits for what it changes only. After a power cut the database has the bridge already,
    and the switch makes the device in its own time.
    """
    step.run(vsctl(cloud, *words))

    def there() -> bool:
        return namespace.device(cloud, name) is not None

    step.until(there, seconds=30, what=f"The network device {name}")


def _switch_control(cloud: Cloud) -> Path:
    return cloud.run / "openvswitch" / "ovs-vswitchd.ctl"


def _leads_tunnels(plan: Plan) -> bool:
    return plan.node.datapath == "netdev" and (plan.has_nodes or not plan.controls)


def lead_tunnels(plan: Plan, step: Step) -> None:
    """Give the tunnels of the running switch a way to other nodes; the kernel's have one."""
    if _leads_tunnels(plan):
        tunnels.make_link(plan.cloud, step)
        make_bridge(plan.cloud, step, tunnels.bridge(plan.cloud), tunnels.vsctl_words(plan.cloud))
        tunnels.connect(plan.cloud, step, _switch_control(plan.cloud), tunnel_address(plan))


def switch(plan: Plan) -> Service:
    cloud = plan.cloud
    control = _switch_control(cloud)
    command = [
        *("ovs-vswitchd", f"unix:{switch_socket(cloud)}", f"--unixctl={control}"),
        *(f"--pidfile={control.with_name('ovs-vswitchd.pid')}", "--overwrite-pidfile"),
        *LOGGING,
    ]

    bridges = (cloud.provider_bridge, tunnels.bridge(cloud))
    address = f"{cloud.provider_address}/{cloud.provider.prefixlen}"
    userspace = plan.node.datapath == "netdev"
    starting = ("sh", str(USERSPACE), str(control), *bridges, tunnels.KERNEL) if userspace else ()

    def settle(step: Step) -> None:
        """The provider bridge and that of the tunnels; ovn-controller makes the integration one."""
        if plan.controls:
            provider_bridge(step)
        lead_tunnels(plan, step)

    def provider_bridge(step: Step) -> None:
        bridge, kind = cloud.provider_bridge, plan.node.datapath
        words = (
            *("--may-exist", "add-br", bridge),
            *("--", "set", "bridge", bridge, f"datapath_type={kind}"),
            *("fail-mode=standalone", f"external-ids:dozen={cloud.name}"),
        )
        make_bridge(cloud, step, bridge, words)
        if cloud.provider_address is None:
            end = uplink.link_devices(cloud)[1]
            step.run(vsctl(cloud, "--may-exist", "add-port", bridge, end))
            return
        step.run(namespace.ip(cloud, "address", "replace", address, "dev", bridge))
        step.run(namespace.ip(cloud, "link", "set", bridge, "up"))
        if userspace:
            # See USERSPACE.
            step.run(namespace.there(cloud, "ethtool", "-K", bridge, "tx", "off"))

    def fault() -> str:
        if plan.controls:
            if cloud.provider_address is None:
                found = namespace.device_fault(cloud, uplink.link_devices(cloud)[0])
            else:
                found = namespace.device_fault(cloud, cloud.provider_bridge, address)
            if found:
                return found
        return tunnels.fault(cloud, tunnel_address(plan)) if _leads_tunnels(plan) else ""

    return Service(
        SWITCH,
        command=[*starting, *command],
        environment=environment(cloud),
        after=("ovs-db", "card"),
        confinement=Unconfined("makes network devices"),
        settle=settle,
        fault=fault,
        ready=accepting(control),
    )


def _ovn_database(plan: Plan, service: Definition, kind: str, *more: str) -> Service:
    cloud = plan.cloud
    data, socket = cloud.lib / "ovn" / f"{kind}.db", cloud.run / "ovn" / f"{kind}.sock"
    schema = registry.here().paths.ovn_schemas / f"ovn-{kind}.ovsschema"
    return Service(
        service,
        command=[
            *("ovsdb-server", str(data), f"--remote=punix:{socket}"),
            *(f"--unixctl={socket.with_suffix('.ctl')}", *LOGGING, *more),
        ],
        user=USER,
        environment=environment(cloud),
        folders=(
            # setgid: Neutron is in that group, and so becomes the socket.
            Folder(cloud.run / "ovn", USER, GROUP, 0o2750),
            Folder(data.parent, USER, USER),
        ),
        prepare=lambda step: _database(step, data, schema, USER),
        ready=accepting(socket),
        listens="unix",
    )


def northbound(plan: Plan) -> Service:
    return _ovn_database(plan, NORTHBOUND, "nb")


def _trusted(cloud: Cloud) -> Path:
    """The authority whose certificates let in now; ovsdb-server sees when it changes."""
    return cloud.lib / "ovn" / "nodes.crt"


def southbound(plan: Plan) -> Service:
    cloud = plan.cloud
    service = _ovn_database(
        plan,
        SOUTHBOUND,
        "sb",
        "--remote=db:OVN_Southbound,SB_Global,connections",
        "--ssl-protocols=TLSv1.2",  # or later; the version of today knows no name for 1.3
        f"--ssl-ciphers={tls.CIPHERS}",
        "--private-key=db:OVN_Southbound,SSL,private_key",
        "--certificate=db:OVN_Southbound,SSL,certificate",
        "--ca-cert=db:OVN_Southbound,SSL,ca_cert",
    )
    listens = f"0.0.0.0:{cloud.settings.nodes.southbound}" if plan.has_nodes else "unix"
    return replace(service, settle=lambda step: let_nodes_in(plan, step), listens=listens)


def _sbctl(cloud: Cloud, *words: str) -> list[str]:
    return ["ovn-sbctl", f"--db=unix:{southbound_socket(cloud)}", "--timeout=30", *words]


def let_nodes_in(plan: Plan, step: Step) -> None:
    """Open the southbound database to nodes over TLS; close it where there are none.

    Who is in already stays, unless the nodes' authority has been replaced.
    """
    cloud = plan.cloud
    if not plan.has_nodes:
        step.run(_sbctl(cloud, "del-connection", "--", "del-ssl"))
        return
    trusted, wished = _trusted(cloud), (nodes_folder(cloud) / "trusted.crt").read_bytes()
    if not trusted.exists() or trusted.read_bytes() != wished:
        # Closing ends the sessions that a certificate of another authority began.
        step.run(_sbctl(cloud, "del-connection"))
        write_private(trusted, wished, owner=USER)
    own = tls.folder(cloud) / "southbound"
    identity = ("set-ssl", f"{own}.key", f"{own}.crt", str(trusted))
    remote = ("role=ovn-controller", f"pssl:{cloud.settings.nodes.southbound}")
    connection = (f"--inactivity-probe={PROBE}", "set-connection", *remote)
    step.run(_sbctl(cloud, *identity, "--", *connection))


def northd(plan: Plan) -> Service:
    cloud = plan.cloud
    control = cloud.run / "ovn" / "northd.ctl"
    return Service(
        NORTHD,
        command=[
            *(ovnseries.northd(cloud), f"--ovnnb-db=unix:{northbound_socket(cloud)}"),
            *(f"--ovnsb-db=unix:{southbound_socket(cloud)}", f"--unixctl={control}", *LOGGING),
        ],
        user=USER,
        environment=environment(cloud),
        after=("ovn-nb", "ovn-sb", "older-ovn"),
        ready=accepting(control),
    )


def controller(plan: Plan) -> Service:
    cloud = plan.cloud
    run = cloud.run / "openvswitch"

    identity: tuple[str, ...] = ()
    if files := node_identity(plan):
        key, certificate, authority = map(str, files)
        identity = ("-p", key, "-c", certificate, "-C", authority)

    def ready() -> bool:
        # It names its control socket by its pid and has no option for that.
        return any(accepting(path)() for path in run.glob("ovn-controller.*.ctl"))

    return Service(
        CONTROLLER,
        command=["ovn-controller", f"unix:{switch_socket(cloud)}", *LOGGING, *identity],
        # The southbound database's socket is of the services' group, which root is not in.
        confinement=Confinement(capabilities=("dac_override",)),
        # It looks for the switch's OpenFlow sockets below OVN's own run folder otherwise.
        environment={**environment(cloud), "OVN_RUNDIR": str(run)},
        after=("ovs-switch", "ovn-sb"),
        ready=ready,
    )


def meet_nodes(plan: Plan, step: Step) -> None:
    """Make the running networks of the controller fit to its nodes: the first, or no more.

    Restarts nothing, and changes nothing where nothing has changed.
    """
    let_nodes_in(plan, step)
    _forget_chassis(plan, step)
    lead_tunnels(plan, step)
    introduce(plan, step)


def _forget_chassis(plan: Plan, step: Step) -> None:
    """Remove nodes that are no longer: the others would keep tunnels to them."""
    known = {plan.node.chassis, *(member.chassis for member in plan.members)}
    listed = step.run(_sbctl(plan.cloud, "--bare", "--columns=name", "list", "Chassis")).stdout
    for name in sorted({*listed.split()} - known):
        step.run(_sbctl(plan.cloud, "--if-exists", "chassis-del", name))


NORTHBOUND = Definition(
    name="ovn-nb",
    title="Networks as wished (OVN northbound)",
    describe=northbound,
    roles=frozenset((Role.CONTROL,)),
    foundation=True,
)
SOUTHBOUND = Definition(
    name="ovn-sb",
    title="Networks as flows (OVN southbound)",
    describe=southbound,
    roles=frozenset((Role.CONTROL,)),
    foundation=True,
)
NORTHD = Definition(
    name="ovn-northd",
    title="Networks to flows (OVN northd)",
    describe=northd,
    roles=frozenset((Role.CONTROL,)),
    needs=(Need.OVN_CENTRAL,),
    foundation=True,
)
CONTROLLER = Definition(
    name="ovn-controller",
    title="Flows of this node (OVN controller)",
    describe=controller,
    roles=frozenset((Role.COMPUTE,)),
    root="writes flows through root's socket of the switch",
    needs=(Need.OVN_HOST,),
    foundation=True,
)
SWITCH = Definition(
    name="ovs-switch",
    title="Switch (Open vSwitch)",
    describe=switch,
    roles=frozenset((Role.COMPUTE,)),
    root="makes network devices",
    needs=(Need.SWITCH,),
    foundation=True,
)
SWITCH_DATABASE = Definition(
    name="ovs-db",
    title="Switch database (Open vSwitch)",
    describe=switch_database,
    roles=frozenset((Role.COMPUTE,)),
    root="its socket gives power over the switch",
    foundation=True,
)
