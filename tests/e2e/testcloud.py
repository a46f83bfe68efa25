"""What the end-to-end tests work with: a cloud made by the command line, tenants, their servers."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import join
from typing import Any, TypeVar

from openstack.config import OpenStackConfig
from openstack.connection import Connection
from openstack.exceptions import ResourceFailure, SDKException

from dozencloud.cloud.installation import Cloud, load
from dozencloud.cloud.plan import Plan
from dozencloud.facts.routes import routes
from dozencloud.services import services
from dozencloud.supervision.service import Service

PLACE = Path("/var/tmp")  # noqa: S108  (on a real disk, and a short path)
IMAGE, FLAVOR, EXTERNAL = "tiny-arm64", "m1.nano", "public"
BOOT_SECONDS = 150
"""From the request to SSH, at most: the guest is emulated, perhaps beside a second cloud."""
SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "LogLevel=ERROR"),
)
Answer = TypeVar("Answer")


def eventually(
    probe: Callable[[], Answer], *, seconds: float, what: str, every: float = 0.3
) -> Answer:
    """The first true answer of `probe`; fails, with its last answer, after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what} (last answer: {answer!r})")
        time.sleep(every)
    return answer


@dataclass(frozen=True)
class Guest:
    """A server, seen by somebody who has its key.

    via: the server through which it is reached. patience: s that it has to let somebody in.
    """

    id: str
    name: str
    fixed: str
    floating: str
    key: Path
    via: Guest | None = None
    patience: int = 5

    def login(self, user: str, key: Path, *options: str) -> list[str]:
        """Command line that logs in to it."""
        if self.via:
            through = self.via.login(user, self.via.key, "-W", "%h:%p")
            options = (*options, "-o", f"ProxyCommand={join(through)}")
        address = self.fixed if self.via else self.floating
        patience = ("-o", f"ConnectTimeout={self.patience}")
        return ["ssh", "-i", str(key), *SSH_OPTIONS, *patience, *options, f"{user}@{address}"]

    def ask(
        self, words: str, user: str = "dozen", key: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it, whatever comes of it."""
        return subprocess.run(
            [*self.login(user, key or self.key), words],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=55 + self.patience,
        )

    def run(self, words: str, user: str = "dozen") -> str:
        """Output of a shell command that must succeed in it."""
        done = self.ask(words, user)
        assert done.returncode == 0, f"{self.name}: {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def inside(self, via: Guest) -> Guest:
        """The same server, reached from another one by the network of both."""
        return replace(self, floating="", via=via)

    def uptime(self) -> float:
        """Seconds since it started."""
        return float(self.run("cut -d ' ' -f 1 /proc/uptime"))

    def answers(self) -> bool:
        """SSH lets us in."""
        try:
            return self.ask("true").returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait(self, seconds: float = BOOT_SECONDS) -> Guest:
        eventually(self.answers, seconds=seconds, what=f"SSH into {self.name}")
        return self


def pings(address: str) -> bool:
    """One echo comes back to this machine within two seconds."""
    words = ["ping", "-n", "-c", "1", "-W", "2", address]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def new_key(path: Path) -> str:
    """Make an SSH key; returns the public part."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(f"{path.name}.pub").read_text().strip()


class Tenant:
    """A project with a user of its own, and what was made in it; `clear` removes all of that."""

    def __init__(self, sdk: Any, keys: Path, key_name: str, key: Path) -> None:
        self.sdk, self.keys, self.key_name, self.key = sdk, keys, key_name, key
        self._made: list[Callable[[], object]] = []
        self._servers: list[Any] = []

    @property
    def project(self) -> str:
        return str(self.sdk.current_project_id)

    def later(self, remove: Callable[[], object]) -> None:
        """Remember how to remove what was just made."""
        self._made.append(remove)

    def clear(self) -> None:
        while self._servers:
            self.sdk.compute.delete_server(self._servers.pop(), ignore_missing=True)
        while self._made:
            with suppress(SDKException):
                self._made.pop()()

    def network(self, name: str, cidr: str) -> Any:
        """A network with a router to the floating IPs."""
        net = self.sdk.network
        network = net.create_network(name=name)
        self.later(lambda: net.delete_network(network))
        subnet = net.create_subnet(name=name, network_id=network.id, ip_version=4, cidr=cidr)
        outside = {"network_id": net.find_network(EXTERNAL).id}
        router = net.create_router(name=name, external_gateway_info=outside)
        self.later(lambda: net.delete_router(router))
        net.add_interface_to_router(router, subnet_id=subnet.id)
        self.later(lambda: net.remove_interface_from_router(router, subnet_id=subnet.id))
        return network

    def group(self, name: str, *rules: dict[str, object]) -> Any:
        """A security group that lets in what `rules` say, and nothing else."""
        net = self.sdk.network
        group = net.create_security_group(name=name)
        self.later(lambda: net.delete_security_group(group))
        for rule in rules:
            self.allow(group, **rule)
        return group

    def allow(self, group: Any, **rule: object) -> Any:
        return self.sdk.network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", ether_type="IPv4", **rule
        )

    def create(self, name: str, network: Any, group: Any = None, **more: Any) -> Any:
        """Ask for a server of the small image; does not wait."""
        compute = self.sdk.compute
        image = more.pop("image_id", None) or self.sdk.image.find_image(IMAGE).id
        if script := more.pop("user_data", ""):
            data = script if isinstance(script, bytes) else script.encode()
            more["user_data"] = base64.b64encode(data).decode()
        if group is not None:
            more["security_groups"] = [{"name": group.id}]
        where = [{"uuid": network.id}] if network is not None else more.pop("networks")
        server = compute.create_server(
            name=name,
            image_id=image,
            flavor_id=compute.find_flavor(more.pop("flavor", FLAVOR)).id,
            networks=where,
            key_name=more.pop("key_name", self.key_name),
            **more,
        )

        self._servers.append(server)
        self.later(lambda: compute.wait_for_delete(server, interval=0.3, wait=60))
        return server

    def guest(self, server: Any, *, floating: bool = True, via: Guest | None = None) -> Guest:
        """The server as soon as it is active, with a floating IP if wished."""
        compute, net = self.sdk.compute, self.sdk.network
        try:
            server = compute.wait_for_server(server, interval=0.3, wait=BOOT_SECONDS)
        except ResourceFailure as error:
            error.add_note(f"Its fault: {compute.get_server(server).fault}")
            raise
        (port,) = net.ports(device_id=server.id)
        address = ""
        if floating:
            outside = net.find_network(EXTERNAL).id
            ip = net.create_ip(floating_network_id=outside, port_id=port.id)
            self.later(lambda: net.delete_ip(ip))
            address = ip.floating_ip_address
        fixed = port.fixed_ips[0]["ip_address"]
        return Guest(server.id, server.name, fixed, address, self.key, via)


def new_root(prefix: str) -> Path:
    """A folder for a cloud whose floating IPs no other one of this machine has."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=PLACE))
        made.chmod(0o755)  # the users of the services pass through
        if not any(route.network.overlaps(Cloud(made).provider) for route in routes()):
            return made
        made.rmdir()


OPEN: tuple[dict[str, object], ...] = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
)
"""Rules of a security group for ping and SSH from anywhere."""


class TestCloud:
    """A cloud under a root of its own, used as a person would: by the command line and clients."""

    __test__ = False

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def cloud(self) -> Cloud:
        return load(self.root)

    # ---- the command line -----------------------------------------------------------------

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "dozencloud", "--root", str(self.root), *words]

    def dozen(
        self, *words: str, code: int | None = 0, timeout: float = 400
    ) -> subprocess.CompletedProcess[str]:
        """`dozen WORDS`, which must end with that exit status (None: any)."""
        done = subprocess.run(
            self.words(*words),
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        said = f"dozen {' '.join(words)}: {done.returncode}\n{done.stdout[-6000:]}{done.stderr}"
        assert code is None or done.returncode == code, said
        return done

    def destroy(self) -> None:
        """Remove the cloud; one that is made in its place has other passwords."""
        self.dozen("destroy", "--yes")
        self.__dict__.pop("sdk", None)

    def inside(self, *words: str) -> str:
        """Output of a command in the cloud's network namespace."""
        enter = ["nsenter", f"--net=/run/netns/{self.cloud.namespace}", *words]
        return subprocess.run(enter, check=True, capture_output=True, text=True).stdout

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.dozen("status", "--json", code=None).stdout)
        return answer

    def pids(self) -> dict[str, int]:
        """Service → pid, of those that run."""
        return {s["name"]: s["pid"] for s in self.status()["services"] if s["pid"]}

    def services(self) -> dict[str, Service]:
        """The descriptions of the services, whose `ready` asks the running ones."""
        return {service.name: service for service in services(Plan.kept(self.cloud))}

    # ---- the APIs -------------------------------------------------------------------------

    @cached_property
    def sdk(self) -> Any:
        """The administrator's connection, by the clouds.yaml that `up` wrote."""
        config = OpenStackConfig(
            config_files=[str(self.cloud.etc / "clouds.yaml")], load_envvars=False
        )
        return Connection(config=config.get_one("dozen"))

    @property
    def key(self) -> Path:
        """The private key that `up` made."""
        return self.cloud.etc / "ssh" / "id_ed25519"

    def admin(self) -> Tenant:
        """The project of the administrator, with the networks and the key that `up` registered."""
        return Tenant(self.sdk, self.key.parent, "dozen", self.key)

    def tenant(self, name: str) -> Tenant:
        """A new project with one user, who is a member of it."""
        identity, password = self.sdk.identity, secrets.token_hex(16)
        project = identity.create_project(name=name, domain_id="default")
        user = identity.create_user(
            name=name, password=password, domain_id="default", default_project_id=project.id
        )
        member = identity.find_role("member")
        identity.assign_project_role_to_user(project, user, member)
        sdk = Connection(
            auth={
                **{"username": name, "password": password, "project_name": name},
                **{"user_domain_id": "default", "project_domain_id": "default"},
                "auth_url": f"{self.cloud.public_url}/identity/v3",
            },
            region_name="RegionOne",
            interface="public",
            identity_api_version=3,
            cacert=str(self.cloud.ca),
        )
        public = self.key.with_name(f"{self.key.name}.pub").read_text().strip()
        tenant = Tenant(sdk, self.key.parent, name, self.key)
        tenant.later(lambda: identity.delete_project(project))
        tenant.later(lambda: identity.delete_user(user))
        net = self.sdk.network
        tenant.later(
            lambda: [
                net.delete_security_group(g) for g in net.security_groups(project_id=project.id)
            ]
        )
        sdk.compute.create_keypair(name=name, public_key=public)
        tenant.later(lambda: sdk.compute.delete_keypair(name))
        return tenant

    def first(self) -> Guest:
        """The server that `up` made."""
        server = self.sdk.compute.find_server("first")
        (port,) = self.sdk.network.ports(device_id=server.id)
        (ip,) = self.sdk.network.ips(port_id=port.id)
        fixed = port.fixed_ips[0]["ip_address"]
        return Guest(server.id, "first", fixed, ip.floating_ip_address, self.key)

    def check(self) -> None:
        """The whole works: a new server boots and lets us in."""
        admin = self.admin()
        try:
            group = next(self.sdk.network.security_groups(name="ssh", project_id=admin.project))
            network = self.sdk.network.find_network("private")
            admin.guest(admin.create("check", network, group)).wait()
        finally:
            admin.clear()


def settle(machine: TestCloud, line: str, *words: str) -> None:
    """Put that line in place of the setting's own, and have it applied. words: for `up`."""
    file, name = machine.cloud.file, line.partition(" = ")[0]
    text, changed = re.subn(rf"^(# )?{name} = .*$", line, file.read_text(), flags=re.M)
    assert changed == 1
    file.write_text(text)
    machine.dozen("up", *words)
