"""The way from a bare machine to a running cloud, as a graph of tasks.

Each task looks for its own result first. What a task would do again on another input (a setting,
a release) is remembered as a fingerprint of that input.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from dozencloud.access import administrator
from dozencloud.checks import reachable
from dozencloud.cloud import certificates, folders
from dozencloud.cloud.installation import CONSOLE_USER, Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import State, digest
from dozencloud.content import schema
from dozencloud.content.tasks import Content
from dozencloud.facts import Facts
from dozencloud.host import packages, users
from dozencloud.host.distributions import registry
from dozencloud.host.network import namespace, uplink, wayout
from dozencloud.lifecycle.node import needed_packages
from dozencloud.lifecycle.services import Running, configure, make_folder
from dozencloud.nodes.controller import authority, broker
from dozencloud.nodes.joined.client import Controller
from dozencloud.private import write_private
from dozencloud.services import ovn, ovnseries
from dozencloud.services.gateway import USER as GATEWAY_USER
from dozencloud.services.libvirt import USER as QEMU_USER
from dozencloud.services.neutron import METADATA_USER
from dozencloud.supervision.service import GROUP, Folder, Service
from dozencloud.tasks.graph import Step, Task


@dataclass
class Bringup:
    """Makes the tasks for one cloud on this machine."""

    plan: Plan
    facts: Facts
    load: schema.Loader = schema.from_snapshot
    _packages_done: threading.Event = field(default_factory=threading.Event)

    @property
    def cloud(self) -> Cloud:
        return self.plan.cloud

    @cached_property
    def state(self) -> State:
        return State.of(self.cloud)

    @cached_property
    def running(self) -> Running:
        return Running(self.plan, self.state, self.facts.system.systemd)

    @property
    def services(self) -> list[Service]:
        return self.running.services

    @cached_property
    def content(self) -> Content:
        return Content(
            self.plan,
            self.state,
            self.running.code_fingerprint,
            unchanged=lambda: self.running.all_unchanged,
            await_tools=self._await_packages,
        )

    @cached_property
    def packages(self) -> tuple[str, ...]:
        return needed_packages(self.cloud, self.facts, self.plan.roles)

    # ---- the graph ------------------------------------------------------------------------

    def tasks(self, *, first_server: bool = True) -> list[Task]:
        """All tasks of `dozen up`, and of `dozen join` on a node."""
        if self.plan.controls:
            last = self.content.what()
            last += self.content.first_server() if first_server else []
        else:
            last = [self.node_task()]
        return [
            Task("packages", "packages of the system", self._packages, done=self._packages_there),
            Task(
                "bytecode",
                "Python environment compiled",
                self._bytecode,
                done=self._bytecode_there,
            ),
            *self.control_tasks(after_packages=("packages",), after_bytecode=("bytecode",)),
            *last,
        ]

    def control_tasks(
        self, after_packages: tuple[str, ...] = (), after_bytecode: tuple[str, ...] = ()
    ) -> list[Task]:
        """What also `dozen start` does: needs no network and no packages."""
        tasks = [
            Task(
                "users",
                "System users",
                lambda step: users.create(step, self._users()),
                after=after_packages,
                done=lambda: not users.missing(self._users()),
            ),
            *(self._controller_tasks() if self.plan.controls else ()),
            Task(
                "namespace",
                "Network namespace and the way out",
                self._network,
                # Firewall rules name the user of the console proxy.
                after=("users",),
                done=self._network_there,
            ),
            Task("configuration", "Configuration", self._configuration, after=("users",)),
            Task(
                "supervisor",
                "Supervisor",
                self.running.start_supervisor,
                after=("configuration", "namespace"),
            ),
            Task(
                "preload",
                "Shared Python libraries",
                self.running.preload,
                after=("supervisor", *after_bytecode),
                done=self.running.is_preloaded,
            ),
            *(self.running.task(service) for service in self.services),
        ]
        here = {task.name for task in tasks} | {*after_packages, *after_bytecode}
        return [replace(t, after=tuple(n for n in t.after if n in here)) for t in tasks]

    def _controller_tasks(self) -> list[Task]:
        """What a machine with the cloud's databases has, and a node that joined has not."""
        tasks = [
            Task(
                "certificates",
                "Certificate authority and certificate",
                lambda step: certificates.issue_gateway(self.cloud),
                done=lambda: certificates.gateway_current(self.cloud),
            ),
            Task(
                "schema",
                "Databases",
                self._schema,
                after=("mariadb",),
                done=lambda: self.state.get("schema") == self._schema_fingerprint(),
            ),
            *self.content.who(),
            Task(
                "older-ovn",
                "OVN that all nodes read",
                partial(ovnseries.fetch, self.cloud),
                after=("packages",),
                done=lambda: ovnseries.there(self.cloud),
            ),
            Task(
                "floating-ips",
                "Routers answer",
                partial(reachable.await_answers, self.cloud),
                after=("ovs-switch", "ovn-nb", "ovn-northd", "ovn-controller"),
                done=lambda: not reachable.routers(self.cloud).silent,
            ),
        ]
        if self.cloud.settings.network.provider_interface:
            tasks.append(
                Task(
                    "card",
                    "Network card for floating IPs",
                    partial(uplink.connect, self.cloud),
                    after=("namespace",),
                    done=lambda: uplink.in_place(self.cloud),
                )
            )
        return [*tasks, *(self._node_tasks() if self.plan.has_nodes else ())]

    def _node_tasks(self) -> list[Task]:
        """What a controller owes the nodes that joined it."""
        return [
            Task(
                "node-certificates",
                "Certificates that nodes are shown",
                lambda step: authority.issue_control(self.cloud),
                after=("certificates", "users"),
                done=lambda: authority.control_current(self.cloud),
            ),
            Task(
                "node-networks",
                "Networks to other nodes",
                partial(ovn.meet_nodes, self.plan),
                after=("ovn-sb", "ovs-switch", "node-certificates"),
            ),
            Task(
                "node-trust",
                "What nodes may say to each other",
                self._node_trust,
                after=("rabbitmq",),
                done=lambda: bool(self.state.get("node-trust")) == self._migration,
            ),
        ]

    @property
    def _migration(self) -> bool:
        return self.cloud.settings.nodes.migration

    def _node_trust(self, step: Step) -> None:
        step.note("the broker")
        broker.permit(self.cloud)
        self.state.set("node-trust", self._migration)

    def node_task(self) -> Task:
        """On a node that joined: until servers can be placed there."""
        return Task(
            "compute-node",
            "The cloud places servers here",
            self._in_nova,
            after=("nova-compute", "ovn-controller", "node-agent"),
            done=lambda: self.running.all_unchanged and bool(self.state.get("compute-node")),
        )

    def _in_nova(self, step: Step) -> None:
        """Until the controller says that servers can be placed here, and will have networks."""
        given = self.plan.given
        controller = Controller(given.controller, self.cloud.ca)

        def listed() -> bool | str:
            return controller.lacking(given.node, given.secret) or True

        step.until(listed, seconds=120, every=1, what="This node in the cloud")
        self.state.set("compute-node", True)

    # ---- tasks ----------------------------------------------------------------------------

    def _packages(self, step: Step) -> None:
        packages.install(step, self.packages, self.state)
        system = registry.here()
        if packages.keeps_time(self.cloud, self.facts) and self.facts.system.systemd:
            # No unit of ours: the machine's clock is kept also while the cloud is stopped.
            step.run(["systemctl", "enable", "--now", "--quiet", system.time.unit])
        system.bind(self.plan.environment)
        self._packages_done.set()

    def _await_packages(self, step: Step) -> None:
        if not self._packages_there():
            step.note("the packages of the system")
            step.until(self._packages_done.is_set, seconds=1800, what="Their installation")

    def _packages_there(self) -> bool:
        return (
            not packages.missing(self.packages)
            and self.state.get(packages.BEGUN) is None
            and any(self.plan.environment.glob("lib/python3.*/site-packages/libvirt.py"))
        )

    def _bytecode(self, step: Step) -> None:
        """Services run as users that cannot write bytecode, and would compile at every start."""
        step.note("bytecode")
        # Some packages carry templates that are no Python; they make the exit status useless.
        (folder,) = self.plan.environment.glob("lib/python3.*/site-packages")
        command = [self.plan.python, "-m", "compileall", "-qq", "-x", "/tests?/", str(folder)]
        step.run(command, check=False, timeout=3600)
        self._bytecode_stamp.write_text(self.running.code_fingerprint)

    def _bytecode_there(self) -> bool:
        stamp = self._bytecode_stamp
        return stamp.exists() and stamp.read_text() == self.running.code_fingerprint

    @property
    def _bytecode_stamp(self) -> Path:
        return self.plan.environment / ".bytecode"

    def _users(self) -> dict[str, str]:
        """Name -> group. Users that a guest may break out to are not in the services'."""
        # Firewall rules name the console proxy's user, on every node.
        names = {service.user for service in self.services} - {"root"}
        names |= {GATEWAY_USER, CONSOLE_USER}
        return dict.fromkeys(names, GROUP) | {QEMU_USER: "kvm", METADATA_USER: ""}

    def _network(self, step: Step) -> None:
        namespace.make_namespace(self.cloud, step, floating=self.plan.controls)
        wayout.open_way_out(self.cloud, step)

    def _network_there(self) -> bool:
        linked = namespace.linked(self.cloud, floating=self.plan.controls)
        return linked and wayout.way_out_is_open(self.cloud)

    def _configuration(self, step: Step) -> None:
        folders.make_folders(self.cloud, GROUP)  # the group is there now
        make_folder(Folder(self.cloud.run / "api", "root", GROUP, 0o710))
        for socket_of_before in (self.cloud.run / "api").glob("*.sock"):
            socket_of_before.unlink()
        configure(self.services, step)
        if self.plan.controls:
            self._clouds_yaml()
        self.running.supervisor.write_config(self.services)

    def _clouds_yaml(self) -> None:
        clouds = administrator.clouds_yaml(self.cloud, self.plan.secrets["keystone.admin"])
        # JSON is YAML.
        text = json.dumps(clouds, indent=2) + "\n"
        path = self.cloud.etc / "clouds.yaml"
        if not path.exists() or path.read_text() != text:
            write_private(path, text)

    def _schema(self, step: Step) -> None:
        schema.accounts(self.plan, step)
        self.load(self.plan, step)
        self.state.set("schema", self._schema_fingerprint())

    def _schema_fingerprint(self) -> str:
        return digest(
            sorted(self.plan.secrets[f"mariadb.{u}"] for u in set(schema.databases().values()))
        )
