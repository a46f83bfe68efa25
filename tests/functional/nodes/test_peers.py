"""Nodes that trust each other, through the real libvirtd: who is let in, and files that go over."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("libvirt")
pytestmark = [
    pytest.mark.functional,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not shutil.which("libvirtd"), reason="libvirtd is not installed"),
]

import nova.conf  # noqa: E402
from nodekit import STEP, Machine, controller_plan, machine, node_plan  # noqa: E402

from dozencloud.cloud import certificates, tls  # noqa: E402
from dozencloud.cloud.installation import LIBVIRT_PORT, Cloud  # noqa: E402
from dozencloud.cloud.membership import Member  # noqa: E402
from dozencloud.cloud.plan import Plan  # noqa: E402
from dozencloud.cloud.settings import parse  # noqa: E402
from dozencloud.compute.joined.peerfiles import PeerDriver  # noqa: E402
from dozencloud.host import users  # noqa: E402
from dozencloud.host.network import namespace  # noqa: E402
from dozencloud.nodes.controller import authority, enrol  # noqa: E402
from dozencloud.nodes.joined import joining, peers  # noqa: E402
from dozencloud.private import write_private  # noqa: E402
from dozencloud.services import libvirt  # noqa: E402

MIB = 1 << 20


@dataclass(frozen=True)
class Near:
    """The controller's answers to a node, without the way between them."""

    cloud: Cloud
    member: Member

    def peers(self, name: str, secret: str, csr: str) -> dict[str, str]:
        return enrol.peer(self.cloud, self.member, csr)


def trusting(root: Path, controller: Cloud, number: int) -> tuple[Plan, Near]:
    """A node that trusts the others."""
    plan, member = node_plan(root, controller, number)
    # libvirt's UUID of the host
    plan = replace(plan, node=replace(plan.node, chassis=str(uuid.UUID(int=number))))
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.load_pem_x509_csr(joining.request(key, member.chassis).encode())
    made = authority.sign(controller, request, member.chassis, member.address)
    certificates.replace_pair(tls.folder(plan.cloud) / "node", made.encode(), key)
    return meet(plan, Near(controller, member)), Near(controller, member)


def meet(plan: Plan, near: Near) -> Plan:
    given: Any = plan.membership
    before = os.umask(0o077)
    try:
        here = peers.meet(plan.cloud, given, near)  # type: ignore[arg-type]
    finally:
        os.umask(before)
    return replace(plan, membership=here)


@dataclass
class Nodes:
    """The controller's side, a node whose libvirtd runs, and another node."""

    controller: Cloud
    here: Machine
    near: Near
    there: Plan

    @property
    def address(self) -> str:
        return self.near.member.address

    def lists(self, keys: Path) -> bool:
        """Whether libvirtd answers who has these keys."""
        uri = f"qemu+tls://{self.address}/system?pkipath={keys}"
        return self.here.run("virsh", "--connect", uri, "list", check=False).returncode == 0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="dzp", dir="/var/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        controller = replace(
            controller_plan(folder / "ctl").cloud, settings=parse({"nodes": {"migration": True}})
        )
        plan, near = trusting(folder / "one", controller, 1)
        other, _ = trusting(folder / "two", controller, 2)
        users.create(STEP, {libvirt.USER: "kvm"})
        services = [libvirt.log_daemon(plan), libvirt.daemon(plan)]
        here = stack.enter_context(machine(plan, services))
        for file in [file for service in services for file in service.files]:
            write_private(file.path, file.content, file.mode)
        here.start()
        yield Nodes(controller, here, near, other)


def keys(folder: Path, nodes: Nodes, certificate: Path | None, key: Path | None) -> Path:
    """A folder as libvirt's clients read it."""
    folder.mkdir()
    shutil.copy(authority.trusted(nodes.controller), folder / "cacert.pem")
    if certificate and key:
        shutil.copy(certificate, folder / "clientcert.pem")
        shutil.copy(key, folder / "clientkey.pem")
    return folder


def test_it_listens_on_its_address_only(nodes: Nodes) -> None:
    listening = {line.split()[3] for line in nodes.here.run("ss", "-Hltn").stdout.splitlines()}
    assert listening == {f"{nodes.address}:{LIBVIRT_PORT}"}


def test_qemu_s_user_reads_its_own_key_only(nodes: Nodes) -> None:
    def reads(path: Path) -> bool:
        words = ("runuser", "-u", libvirt.USER, "--", "cat", str(path))
        return nodes.here.run(*words, check=False).returncode == 0

    streams = libvirt.streams(nodes.here.cloud)
    names = ("ca-cert", "server-cert", "server-key", "client-cert", "client-key")
    assert all(reads(streams / f"{name}.pem") for name in names)
    assert not reads(libvirt.peers(nodes.here.cloud) / "clientkey.pem")


def test_nodes_are_let_in_and_nobody_else(nodes: Nodes, tmp_path: Path) -> None:
    assert nodes.lists(libvirt.peers(nodes.there.cloud))
    stranger = certificates.Authority.made(tmp_path / "ca.crt", tmp_path / "ca.key", "nodes")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = stranger.issue("x", [nodes.address], key.public_key(), [certificates.CLIENT])
    certificates.replace_pair(tmp_path / "stranger", certificates.pem(leaf), key)
    controls = tls.folder(nodes.controller)
    streams = libvirt.streams(nodes.there.cloud)
    for name, pair in {
        "nobody": (None, None),
        "stranger": (tmp_path / "stranger.crt", tmp_path / "stranger.key"),
        "controller": (controls / "controller.crt", controls / "controller.key"),
        "streams": (streams / "client-cert.pem", streams / "client-key.pem"),
    }.items():
        assert not nodes.lists(keys(tmp_path / name, nodes, *pair)), name


def test_files_go_over_and_holes_stay_holes(
    nodes: Nodes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = f"qemu+tls://%s/system?pkipath={libvirt.peers(nodes.there.cloud)}"
    nova.conf.CONF.set_override("live_migration_uri", uri, "libvirt")
    request.addfinalizer(lambda: nova.conf.CONF.clear_override("live_migration_uri", "libvirt"))
    there = nodes.here.cloud.lib / "server"
    one, two = tmp_path / "one", tmp_path / "two"
    with one.open("wb") as file:
        for start in (3 * MIB, 40 * MIB):
            file.seek(start)
            file.write(os.urandom(MIB + 123))
        file.truncate(512 * MIB)
    rest: Any = {"on_execute": None, "on_completion": None}
    driver = PeerDriver()
    with namespace.within(nodes.here.cloud):
        driver.create_dir(nodes.address, str(there), **rest)
        for _ in range(2):  # the second one takes the first one's place
            driver.copy_file(str(one), f"{nodes.address}:{there}/disk", compression=True, **rest)
        driver.copy_file(f"{nodes.address}:{there}/disk", str(two), compression=True, **rest)
        blocks = [path.stat().st_blocks * 512 for path in (one, there / "disk", two)]
        driver.remove_dir(nodes.address, str(there), **rest)
    assert two.read_bytes() == one.read_bytes()
    assert max(blocks) < 4 * MIB
    assert not there.exists()


def test_a_node_that_was_removed_is_shut_out(nodes: Nodes) -> None:
    """The other has taken up the new authority; a node with a certificate of it is let in."""
    authority.replace(nodes.controller, keep_old=False)
    plan, _ = trusting(nodes.here.cloud.root or Path(), nodes.controller, 1)
    daemon = libvirt.daemon(plan)
    nodes.here.supervisor.stop(daemon.name)
    assert daemon.prepare
    daemon.prepare(STEP)
    nodes.here.supervisor.start(daemon.name)
    STEP.until(daemon.ready, seconds=30, what=daemon.title)
    assert not nodes.lists(libvirt.peers(nodes.there.cloud))
    assert nodes.lists(libvirt.peers(plan.cloud))
