"""A node's side of migration: by what it knows the other nodes, if its controller lets it.

A restart of libvirtd takes that up; servers do not notice. Where nodes begin or cease to trust each
other nova-compute is restarted, too.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Membership, keep
from dozencloud.errors import Exit, Problem
from dozencloud.facts.run import ask
from dozencloud.nodes.joined import joining
from dozencloud.nodes.joined.client import Controller
from dozencloud.private import write_private
from dozencloud.services import libvirt

RESTART_SECONDS = 900.0
"""Within which services of a busy board are restarted."""


def meet(cloud: Cloud, given: Membership, controller: Controller) -> Membership:
    """Trust the nodes that the controller lets in now, or none."""
    key = ec.generate_private_key(ec.SECP256R1())
    answer = controller.peers(given.node, given.secret, joining.request(key, given.node))
    here = replace(given, migration=str(answer["migration"]))
    if here.migration:
        _write(cloud, answer, key)
    keep(cloud, here)
    if not here.migration:
        shutil.rmtree(libvirt.peers(cloud), ignore_errors=True)
    return here


def _write(cloud: Cloud, answer: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> None:
    """Names as libvirt (pkipath) and QEMU (tls-creds-x509) want them."""
    own, folder, streams = tls.folder(cloud), libvirt.peers(cloud), libvirt.streams(cloud)
    for each in (folder, streams):
        each.mkdir(mode=0o700, exist_ok=True)  # libvirtd's start lets QEMU's user pass
    write_private(folder / "cacert.pem", str(answer["nodes"]))
    _link(folder / "clientcert.pem", own / "node.crt")
    _link(folder / "clientkey.pem", own / "node.key")
    certificates.save_key(streams / "server-key.pem", key)
    write_private(streams / "server-cert.pem", str(answer["certificate"]), 0o644)
    write_private(streams / "ca-cert.pem", str(answer["streams"]), 0o644)
    _link(streams / "client-key.pem", Path("server-key.pem"))
    _link(streams / "client-cert.pem", Path("server-cert.pem"))


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _todo(cloud: Cloud) -> Path:
    """Names of services that are still to be restarted."""
    return cloud.run / "node-agent.todo"


def postpone(cloud: Cloud, *, toggled: bool) -> None:
    """Remember what to restart, also over the end of this process."""
    names = {"libvirtd", *(["nova-compute"] if toggled else []), *_named(cloud)}
    write_private(_todo(cloud), " ".join(sorted(names)) + "\n")


def _named(cloud: Cloud) -> list[str]:
    path = _todo(cloud)
    return path.read_text().split() if path.exists() else []


def restart(cloud: Cloud) -> None:
    """Do what was postponed; while another `dozen` is at work it stays so."""
    names = _named(cloud)
    if not names:
        return
    root = ("--root", str(cloud.root)) if cloud.root else ()
    words = [sys.executable, "-P", "-m", "dozencloud", *root, "restart", *names]
    done = ask(*words, timeout=RESTART_SECONDS)
    if done.code == Exit.BUSY:
        return
    if not done.ok:
        raise Problem(
            f"{' and '.join(names)} could not be restarted to take up which nodes to trust.",
            f"See: {cloud.command('status')}",
            detail=done.error.strip(),
        )
    _todo(cloud).unlink()
