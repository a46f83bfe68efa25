"""What a new cloud has: flavors, networks, a key, an ARM image, the first server.

Everything is looked for by name first, so that a run that was cut off goes on. One SDK process
does it all: each `openstack` call would cost 1.5-2 s.
"""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dozencloud.access.administrator import connect
from dozencloud.access.ssh import KeyFiles, ssh
from dozencloud.cloud.installation import REGION, Cloud
from dozencloud.cloud.plan import Node
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import PROJECT_PREFIX
from dozencloud.errors import Problem
from dozencloud.images.files import file_hash
from dozencloud.images.inspection.model import Arch
from dozencloud.images.properties import TRAITS
from dozencloud.images.tiny.direct import TinyImage
from dozencloud.private import write_private
from dozencloud.services import accounts, catalogued, keystone_users
from dozencloud.tasks.graph import Step

# name: (memory MiB, disk GiB, vCPUs)
FLAVORS: Mapping[str, tuple[int, int, int]] = {
    "m1.nano": (256, 1, 1),
    "m1.micro": (512, 4, 1),
    "m1.small": (1024, 10, 1),
    "m1.medium": (2048, 20, 2),
    "m1.large": (4096, 40, 4),
}
IMAGE_LIMITS: Mapping[str, int] = {
    "image_size_total": 10240,
    "image_stage_total": 10240,
    "image_count_total": 100,
    "image_count_uploading": 10,
}
"""Of a project: MiB of images, MiB on their way into the cloud, images, and uploads at a time."""
EXTERNAL, PRIVATE, ROUTER, KEYPAIR, SECURITY_GROUP = "public", "private", "router", "dozen", "ssh"
DEFAULT_GROUP, POOL = "default", "projects"
GROUP_RULES: tuple[Mapping[str, Any], ...] = (
    {"ether_type": "IPv4", "protocol": "icmp"},
    {"ether_type": "IPv6", "protocol": "ipv6-icmp"},
    *(
        {"ether_type": kind, "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
        for kind in ("IPv4", "IPv6")
    ),
)
"""Ping and SSH, from anywhere."""
FIRST = "first"
DIGEST = "dozen_digest"
"""Property that tells one build of the small image from another."""
SSH_SECONDS = 20
"""After which a login is tried anew."""


def held_roles(assignments: Iterable[Any]) -> defaultdict[str, set[str]]:
    """ID of a user -> IDs of the roles that these assignments give to it."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for each in assignments:
        if each.user:
            held[each.user["id"]].add(each.role["id"])
    return held


def hold_to(
    wanted: set[str],
    has: set[str],
    give: Callable[[str], object],
    take: Callable[[str], object],
) -> None:
    """These roles and no others, each by its ID."""
    for role in wanted - has:
        give(role)
    for role in has - wanted:
        take(role)


class Seed:
    """The tasks, as methods that take a Step."""

    def __init__(self, cloud: Cloud, node: Node, secrets: Secrets) -> None:
        self.cloud, self.node, self.secrets = cloud, node, secrets
        self.keys = KeyFiles(cloud)

    @cached_property
    def sdk(self) -> Any:
        return connect(self.cloud)

    # ---- identity -------------------------------------------------------------------------

    def let_in(self) -> bool:
        """Whether Keystone takes the administrator's password of secrets.json."""
        from keystoneauth1.exceptions import Unauthorized

        try:
            return bool(self.sdk.session.get_token())
        except Unauthorized:
            return False
        finally:
            # With the token comes the catalogue, which a changed address has not reached yet.
            self.sdk.session.invalidate()

    @cached_property
    def identity(self) -> Any:
        """Keystone at its address of now; what the catalogue names may be one of before."""
        here = f"{self.cloud.public_url}/identity/v3"
        return connect(self.cloud, identity_endpoint_override=here).identity

    def accounts(self, step: Step) -> None:
        """The services' users, with their roles and no others."""
        identity = self.identity
        project = identity.find_project(accounts.PROJECT) or identity.create_project(
            name=accounts.PROJECT, domain_id="default"
        )
        roles = {role.name: role for role in identity.roles()}
        for name in accounts.ROLES:
            roles[name] = roles.get(name) or identity.create_role(name=name)
        there = {user.name: user.id for user in identity.users(domain_id="default")}
        in_project = held_roles(identity.role_assignments(scope_project_id=project.id))
        in_all = held_roles(identity.role_assignments(scope_system="all"))
        for account in keystone_users():
            name = account.name
            if name not in there:
                made = identity.create_user(
                    name=name, password=self.secrets[f"keystone.{name}"], domain_id="default"
                )
                there[name] = made.id
            user = there[name]
            hold_to(
                {roles[role].id for role in account.roles},
                in_project[user],
                partial(identity.assign_project_role_to_user, project, user),
                partial(identity.unassign_project_role_from_user, project, user),
            )
            hold_to(
                {roles[role].id for role in account.system},
                in_all[user],
                partial(identity.assign_system_role_to_user, user, system="all"),
                partial(identity.unassign_system_role_from_user, user, system="all"),
            )

    def catalogue(self, step: Step) -> None:
        """Services and endpoints; corrects addresses that have changed."""
        for api in catalogued():
            self._endpoint(api.name, api.kind, f"/{api.path}{api.version}")

    def image_limits(self, step: Step) -> None:
        """What a project may have in Glance; limits that are there stay as somebody set them.

        The administrator's own project has none: whoever is root puts images where there is room.
        """
        identity = self.identity
        service = next(iter(identity.services(type="image")))
        where = {"service_id": service.id, "region_id": REGION}
        there = {limit.resource_name for limit in identity.registered_limits(**where)}
        for name, most in IMAGE_LIMITS.items():
            if name not in there:
                identity.create_registered_limit(resource_name=name, default_limit=most, **where)
        project = identity.find_project("admin").id
        there = {limit.resource_name for limit in identity.limits(project_id=project, **where)}
        for name in IMAGE_LIMITS:
            if name not in there:
                identity.create_limit(
                    resource_name=name, resource_limit=-1, project_id=project, **where
                )

    def _endpoint(self, name: str, kind: str, path: str) -> None:
        identity = self.identity
        service = next(iter(identity.services(type=kind)), None)
        service = service or identity.create_service(name=name, type=kind)
        there = {e.interface: e for e in identity.endpoints(service_id=service.id)}
        for interface, base in (
            ("public", self.cloud.public_url),
            ("internal", self.cloud.internal_url),
            ("admin", self.cloud.internal_url),
        ):
            if interface not in there:
                identity.create_endpoint(
                    service_id=service.id, interface=interface, url=base + path, region_id=REGION
                )
            elif there[interface].url != base + path:
                identity.update_endpoint(there[interface], url=base + path)

    # ---- compute --------------------------------------------------------------------------

    def hypervisor(self, step: Step) -> None:
        """Until Nova lists this node as up and Placement knows what it has."""

        def listed() -> bool | str:
            # Other nodes may be down.
            here = self.sdk.compute.services(host=self.node.name)
            services = {s.binary: s.state for s in here}
            down = [
                name
                for name in ("nova-conductor", "nova-scheduler", "nova-compute")
                if services.get(name) != "up"
            ]
            if down:
                return f"{', '.join(down)} to report"
            found = any(h.name for h in self.sdk.compute.hypervisors())
            providers = list(self.sdk.placement.resource_providers())
            return True if found and providers else "the scheduler to find this node"

        step.until(listed, seconds=120, every=0.3, what="The compute service")

    def flavors(self, step: Step) -> None:
        there = {flavor.name for flavor in self.sdk.compute.flavors()}
        for name, (memory, disk, cpus) in FLAVORS.items():
            if name not in there:
                self.sdk.compute.create_flavor(name=name, ram=memory, disk=disk, vcpus=cpus)

    def key(self, step: Step) -> None:
        """An SSH key made here, private part readable by root only."""
        key, public = self.keys.key, self.keys.key.with_suffix(".pub")
        if not (key.exists() and public.exists()):
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            made = Ed25519PrivateKey.generate()
            key.parent.mkdir(mode=0o700, exist_ok=True)
            openssh = made.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
            write_private(public, openssh + b" dozen\n", 0o644)
            write_private(
                key,
                made.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.OpenSSH,
                    serialization.NoEncryption(),
                ),
            )
        text = public.read_text().strip()
        known = self.sdk.compute.find_keypair(KEYPAIR)
        if known and known.public_key.strip() != text:
            self.sdk.compute.delete_keypair(known)
            known = None
        if not known:
            self.sdk.compute.create_keypair(name=KEYPAIR, public_key=text)

    def key_there(self) -> bool:
        return self.sdk.compute.find_keypair(KEYPAIR) is not None

    # ---- network --------------------------------------------------------------------------

    def networks_there(self) -> bool:
        """What a server, a floating IP and a project's first network are made with."""
        network = self.sdk.network
        whole = self._external() and self._own(network.networks, PRIVATE)
        pools = network.subnet_pools(is_default=True, ip_version=4)
        outside = network.networks(is_router_external=True)
        return bool(whole) and any(pools) and any(each.is_default for each in outside)

    def networks(self, step: Step) -> None:
        """`public` (floating IPs), `private` (servers), a router between them; rules, addresses."""
        network = self.sdk.network
        self._default_groups()
        self._pool()
        first, last = self.cloud.floating_range
        # Not the administrator's: Nova would take it for a network that his servers may be in.
        owner = self.sdk.identity.find_project(accounts.PROJECT).id
        external = self._external() or network.create_network(
            name=EXTERNAL,
            project_id=owner,
            is_router_external=True,
            provider_network_type="flat",
            provider_physical_network="public",
        )
        if not any(each.is_default for each in network.networks(is_router_external=True)):
            network.update_network(external, is_default=True)
        if not any(network.subnets(network_id=external.id)):
            network.create_subnet(
                name=EXTERNAL,
                project_id=owner,
                network_id=external.id,
                ip_version=4,
                cidr=str(self.cloud.provider),
                gateway_ip=self.cloud.provider_gateway,
                is_dhcp_enabled=False,
                allocation_pools=[{"start": first, "end": last}],
            )
        private = self._own(network.networks, PRIVATE) or network.create_network(name=PRIVATE)
        inner = self._own(network.subnets, PRIVATE) or network.create_subnet(
            name=PRIVATE,
            network_id=private.id,
            ip_version=4,
            cidr=str(self.cloud.tenant),
            dns_nameservers=list(self.cloud.settings.network.dns),
        )
        router = self._own(network.routers, ROUTER) or network.create_router(
            name=ROUTER, external_gateway_info={"network_id": external.id}
        )
        ports = network.ports(device_id=router.id)
        if not any(ip["subnet_id"] == inner.id for port in ports for ip in port.fixed_ips):
            network.add_interface_to_router(router, subnet_id=inner.id)
        for name in (DEFAULT_GROUP, SECURITY_GROUP):
            self._security_group(name)

    def _own(self, find: Callable[..., Iterable[Any]], name: str) -> Any:
        """What the administrator's project has of that name; others may have called theirs so."""
        return next(iter(find(name=name, project_id=self.sdk.current_project_id)), None)

    def _external(self) -> Any:
        """The network of the floating IPs; nobody but an administrator makes such."""
        return next(iter(self.sdk.network.networks(name=EXTERNAL, is_router_external=True)), None)

    def _pool(self) -> None:
        """Where projects' own networks come from that Neutron makes with a first server.

        Without IPv6: the network of the floating IPs has none to lead to.
        """
        network, wanted = self.sdk.network, str(self.cloud.projects)
        pool = self._own(network.subnet_pools, POOL)
        if pool is None:
            others = network.subnet_pools(is_default=True, ip_version=4)
            network.create_subnet_pool(
                name=POOL,
                prefixes=[wanted],
                default_prefix_length=PROJECT_PREFIX,
                is_shared=True,
                is_default=not any(others),
            )
        elif wanted not in pool.prefixes:
            network.update_subnet_pool(pool, prefixes=[*pool.prefixes, wanted])

    def _default_groups(self) -> None:
        """Every project's `default` group, from now on: ping and SSH from anywhere."""
        network = self.sdk.network
        there = list(network.default_security_group_rules(direction="ingress"))
        for rule in GROUP_RULES:
            if not any(_is_rule(each, rule) and each.used_in_default_sg for each in there):
                network.create_default_security_group_rule(
                    direction="ingress",
                    used_in_default_sg=True,
                    used_in_non_default_sg=False,
                    **rule,
                )

    def _security_group(self, name: str) -> None:
        """The group of that name in the administrator's project, with the same rules."""
        network = self.sdk.network
        group = self._own(network.security_groups, name) or network.create_security_group(
            name=name, description="Ping and SSH from anywhere."
        )
        there = list(network.security_group_rules(security_group_id=group.id, direction="ingress"))
        for rule in GROUP_RULES:
            if not any(_is_rule(each, rule) for each in there):
                network.create_security_group_rule(
                    security_group_id=group.id, direction="ingress", **rule
                )

    # ---- image ----------------------------------------------------------------------------

    def image_properties(self, tiny: TinyImage) -> dict[str, str]:
        """Glance properties that OpenStack defines for such an image (metadefs, hw_*)."""
        return {
            "hw_architecture": tiny.architecture,
            f"trait:{TRAITS[Arch(tiny.architecture)]}": "required",
            "hw_machine_type": "virt",
            "hw_rng_model": "virtio",
            # A config drive: Nova would choose IDE, by the host's architecture.
            "hw_cdrom_bus": "scsi",
            "hw_video_model": "none",
            "os_command_line": tiny.command_line,
            "os_distro": "debian",
            DIGEST: tiny.digest,
        }

    def image_name(self, architecture: str) -> str:
        return f"tiny-{ {'aarch64': 'arm64', 'armv7l': 'armhf'}[architecture] }"

    def image_id(self, name: str) -> str:
        """Of the cloud's own image of that name, if it is active; others may call theirs so."""
        owner = self.sdk.current_project_id
        found = self.sdk.image.images(name=name, owner=owner, status="active")
        return next((str(image.id) for image in found), "")

    def image_whole(self, architecture: str) -> bool:
        """Servers can be made from the small image: it is there, and so are kernel and initrd."""
        image = self.sdk.image
        there = self.image_id(self.image_name(architecture))
        if not there:
            return False
        whole = image.get_image(there)
        return all(
            any(image.images(id=part, status="active"))
            for part in (whole.kernel_id, whole.ramdisk_id)
        )

    def image(self, step: Step, tiny: TinyImage) -> None:
        """The small image, its kernel and its initrd; none of them is deleted by mistake."""
        image, name = self.sdk.image, self.image_name(tiny.architecture)
        kernel = self._upload(step, f"{name}-kernel", tiny.kernel, "aki", "aki", {})
        initrd = self._upload(step, f"{name}-initrd", tiny.initrd, "ari", "ari", {})
        links = {"kernel_id": kernel, "ramdisk_id": initrd}
        properties = self.image_properties(tiny) | links
        disk = self._upload(step, name, tiny.disk, "qcow2", "bare", properties)
        found = image.get_image(disk)
        if (found.kernel_id, found.ramdisk_id) != (kernel, initrd):
            image.update_image(disk, **links)
        for each in (disk, kernel, initrd):
            if not image.get_image(each).is_protected:
                image.update_image(each, is_protected=True)

    def _own_images(self, name: str) -> list[Any]:
        """The images of that name that are the cloud's: an administrator sees everybody's."""
        project = self.sdk.current_project_id
        return list(self.sdk.image.images(name=name, owner=project))

    def _upload(
        self,
        step: Step,
        name: str,
        path: Path,
        disk_format: str,
        container_format: str,
        properties: Mapping[str, str],
    ) -> str:
        """Id of the image of that name with that content.

        One that was cut off in the middle is replaced. An older one makes room, and stays, hidden,
        for its servers and their snapshots, which need it when they are resized or rescued.
        """
        image = self.sdk.image
        for old in self._own_images(name):
            if old.status != "active":
                image.delete_image(old)
            elif old.hash_value == file_hash(path, old.hash_algo):
                return str(old.id)
            else:
                step.note(f"an older {name} makes room")
                image.update_image(old, name=f"{name}-{old.id[:8]}", is_hidden=True)
        step.note(f"upload of {path.name}, {path.stat().st_size >> 20} MiB")
        made = image.create_image(
            name=name,
            disk_format=disk_format,
            container_format=container_format,
            visibility="public",
            min_ram=128,
            allow_duplicates=True,
            **properties,
        )
        with path.open("rb") as file:
            answer = image.put(
                f"/images/{made.id}/file",
                headers={"Content-Type": "application/octet-stream"},
                data=file,
            )
        if answer.status_code != 204:
            raise Problem(f"Glance did not take the image {name}: {answer.text[:200]}.")
        return str(made.id)

    # ---- the first server -----------------------------------------------------------------

    def first(self, step: Step, image: str) -> None:
        """Create `first` from the cloud's image of that name, and give it a floating IP."""
        compute, network = self.sdk.compute, self.sdk.network
        server = compute.find_server(FIRST)
        if server and compute.get_server(server.id).status == "ERROR":
            step.log.write("replacing a server that failed\n")
            compute.delete_server(server.id)
            compute.wait_for_delete(server, interval=0.3, wait=60)
            server = None
        if not server:
            server = compute.create_server(
                name=FIRST,
                image_id=self.image_id(image),
                flavor_id=compute.find_flavor("m1.nano").id,
                networks=[{"uuid": self._own(network.networks, PRIVATE).id}],
                key_name=KEYPAIR,
            )

        def active() -> bool | str:
            now = compute.get_server(server.id)
            if now.status == "ERROR":
                why = (now.fault or {}).get("message", "no reason given")
                raise Problem(
                    f"Nova could not start the server: {why}.",
                    f"Details: {self.cloud.command('logs', 'nova-compute')}",
                )
            return now.status == "ACTIVE" or f"the server to be active ({now.task_state})"

        step.until(active, seconds=180, every=0.2, what="The server")
        self._floating_ip(server.id)

    def _floating_ip(self, server: str) -> None:
        network = self.sdk.network
        port = next(iter(network.ports(device_id=server)))
        if next(iter(network.ips(port_id=port.id)), None) is None:
            external = self._external()
            network.create_ip(floating_network_id=external.id, port_id=port.id)

    def first_address(self) -> str:
        """Floating IP of `first`; empty if it has none."""
        server = self.sdk.compute.find_server(FIRST)
        if not server:
            return ""
        for port in self.sdk.network.ports(device_id=server.id):
            for ip in self.sdk.network.ips(port_id=port.id):
                return str(ip.floating_ip_address)
        return ""

    def login_prompt(self, step: Step) -> None:
        """Until the server's serial console shows the login prompt."""
        server = self.sdk.compute.find_server(FIRST)

        def prompt() -> bool | str:
            output = self.sdk.compute.get_server_console_output(server.id)["output"] or ""
            lines = output.strip().splitlines()
            return any(line.rstrip().endswith("login:") for line in lines[-5:]) or (
                f"console: {lines[-1][:60]}" if lines else "the first byte on the console"
            )

        step.until(prompt, seconds=240, every=0.3, what="The login prompt")

    def log_in(self, step: Step) -> None:
        """Until SSH lets us in with the key."""
        address = self.first_address()
        command = ssh(self.cloud, address, "true")
        options = ["-o", "ConnectTimeout=3", "-o", "BatchMode=yes"]
        full = [command[0], *options, *command[1:]]
        # An earlier server of that address had another host key.
        write_private(self.keys.known_hosts, "")
        step.note(f"SSH on {address}")
        step.until(_succeeds(full), seconds=120, every=0.3, what=f"SSH on {address}")


def _is_rule(rule: Any, wanted: Mapping[str, Any]) -> bool:
    """It lets that in, from anywhere."""
    anywhere = not (rule.remote_ip_prefix or rule.remote_group_id or rule.remote_address_group_id)
    return anywhere and all(getattr(rule, name) == value for name, value in wanted.items())


def _succeeds(command: list[str]) -> Callable[[], bool]:
    def probe() -> bool:
        started = time.monotonic()
        try:
            result = subprocess.run(
                command,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=SSH_SECONDS,
            )
        except subprocess.TimeoutExpired:  # it let us in, and then said nothing
            return False
        if result.returncode and time.monotonic() - started < 0.2:
            time.sleep(0.2)
        return result.returncode == 0

    return probe
