"""Servers laid out as those that publish images, with their ways of signing; and a proxy."""

from __future__ import annotations

import hashlib
import http.server
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dozencloud.images.catalogue.entries import Key

IMAGE = os.urandom(3_000_000)
OTHER = os.urandom(3_000_000)


def sha(algorithm: str, data: bytes) -> str:
    return hashlib.new(algorithm, data).hexdigest()


@dataclass
class Page:
    """What stands under a path. cut: bytes after which the connection breaks, each time."""

    body: bytes = b""
    status: int = 200
    etag: str = ""
    modified: str = ""
    cuts: list[int] = field(default_factory=list)
    location: str = ""
    ranges: bool = True


class Site(http.server.ThreadingHTTPServer):
    """Pages by path; folders show an index. asked: what was asked, with the Range header."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str]] = []
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "https" if context else "http"
        self.url = f"{scheme}://localhost:{self.server_address[1]}"

    def put(self, path: str, body: bytes | str, **more: object) -> Page:
        data = body.encode() if isinstance(body, str) else body
        page = Page(data, **more)  # type: ignore[arg-type]
        page.etag = page.etag or f'"{sha("sha256", data)[:16]}"'
        self.pages[path] = page
        return page

    def asked_for(self, ending: str) -> list[str]:
        """The Range headers of the requests for what ends so."""
        return [ranged for path, ranged in self.asked if path.endswith(ending)]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.asked.append((path, self.headers.get("Range", "")))
        page = self.server.pages.get(path)
        if page is None and path.endswith("/"):
            page = self.index(path)
        if page is None:
            page = Page(b"nothing here", 404)
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted and page.ranges and self.headers.get("If-Range") in (page.etag, page.modified):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else page.status)
        body = page.body[start:]
        self.send_header("Content-Length", str(len(body)))
        if start:
            last = len(page.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(page.body)}")
        if page.etag:
            self.send_header("ETag", page.etag)
        if page.modified:
            self.send_header("Last-Modified", page.modified)
        if page.location:
            self.send_header("Location", page.location)
        self.end_headers()
        if page.cuts:
            self.wfile.write(body[: page.cuts.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def index(self, folder: str) -> Page | None:
        """As Apache and nginx show a folder: with links to sort it, and to the one above."""
        below = {p.removeprefix(folder) for p in self.server.pages if p.startswith(folder)}
        names = sorted({n.partition("/")[0] + ("/" if "/" in n else "") for n in below})
        if not names:
            return None
        links = "".join(f'<tr><td><a href="{quote(name)}">{name}</a></td></tr>' for name in names)
        head = '<html><h1>Index</h1><a href="?C=M;O=A">Date</a><a href="../">Parent</a>'
        return Page(f"{head}<table>{links}</table></html>".encode())


def certificate(folder: Path) -> tuple[Path, Path]:
    """An authority, and a key with certificate for localhost, in one file each."""
    now = datetime.now(UTC)

    def build(
        name: str, key: ec.EllipticCurvePrivateKey, *more: tuple[x509.ExtensionType, bool]
    ) -> x509.CertificateBuilder:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension, critical in more:
            builder = builder.add_extension(extension, critical=critical)
        return builder

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = build(
        "Test authority",
        root_key,
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (root_id, False),
    ).sign(root_key, hashes.SHA256())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = build(
        "localhost",
        key,
        (x509.SubjectAlternativeName(names), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), False),
    ).sign(root_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    authority, server = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(root.public_bytes(pem))
    server.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(pem)
    )
    return authority, server


class Proxy(threading.Thread):
    """CONNECT for localhost, and 403 for all else."""

    def __init__(self, allow: bool) -> None:
        super().__init__(daemon=True)
        self.allow = allow
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked: list[str] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.tunnel, args=(client,), daemon=True).start()

    def tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        self.asked.append(target)
        if not self.allow:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2])))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
        back.start()
        self.pump(client, server)

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


@dataclass(frozen=True)
class Signer:
    """GnuPG with the keys of "publisher" and of "stranger"."""

    home: Path

    def run(self, *arguments: str, text: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--homedir", str(self.home), *arguments]
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout

    def key(self, who: str) -> Key:
        listing = self.run("--with-colons", "--list-keys", who).decode()
        primary = next(line for line in listing.splitlines() if line.startswith("fpr"))
        file = self.home / f"{who}.gpg"
        file.write_bytes(self.run("--export", who))
        return Key(who, (primary.split(":")[9],), file)

    def detached(self, data: bytes, *options: str, who: str = "publisher") -> bytes:
        return self.run("--local-user", who, "--detach-sign", *options, text=data)

    def clear(self, data: bytes, who: str = "publisher") -> bytes:
        return self.run("--local-user", who, "--clearsign", text=data)


# --- the layouts ---

UBUNTU = "/at/releases/noble/release/ubuntu-24.04-server-cloudimg-arm64.img"
ALPINE = "/at/v3.23/releases/cloud/generic_alpine-3.23.10-aarch64-uefi-cloudinit-r0.qcow2"


def put_debian(site: Site, signer: Signer) -> None:
    folder = "/at/trixie/latest/debian-13-genericcloud-arm64"
    site.put(f"{folder}.qcow2", IMAGE)
    sums = "".join(
        f"{sha('sha512', body)}  debian-13-genericcloud-arm64.{ending}\n"
        for body, ending in ((OTHER, "json"), (IMAGE, "qcow2"), (OTHER, "tar.xz"))
    )
    site.put("/at/trixie/latest/SHA512SUMS", sums)


def put_ubuntu(site: Site, signer: Signer) -> None:
    site.put(UBUNTU, IMAGE)
    folder, _, name = UBUNTU.rpartition("/")
    sums = f"{sha('sha256', OTHER)} *other.img\n{sha('sha256', IMAGE)} *{name}\n".encode()
    site.put(f"{folder}/SHA256SUMS", sums)
    site.put(f"{folder}/SHA256SUMS.gpg", signer.detached(sums, "--armor"))


def put_ubuntu_kernel(site: Site, signer: Signer) -> None:
    folder = "/at/releases/noble/release/unpacked"
    name = "ubuntu-24.04-server-cloudimg-arm64-vmlinuz-generic"
    site.put(f"{folder}/{name}", IMAGE)
    sums = f"{sha('sha256', IMAGE)} *{name}\n".encode()
    site.put(f"{folder}/SHA256SUMS", sums)
    site.put(f"{folder}/SHA256SUMS.gpg", signer.detached(sums, "--armor"))


def put_fedora(site: Site, signer: Signer) -> None:
    folder = "/at/releases/44/Cloud/aarch64/images"
    names = [f"Fedora-Cloud-Base-Generic-44-{n}.aarch64.qcow2" for n in ("1.9", "1.10")]
    site.put(f"{folder}/{names[0]}", OTHER)
    site.put(f"{folder}/{names[1]}", IMAGE)
    site.put(f"{folder}/Fedora-Cloud-Base-UEFI-UKI-44-1.11.aarch64.qcow2", OTHER)
    sums = "".join(
        f"# {name}: {len(body)} bytes\nSHA256 ({name}) = {sha('sha256', body)}\n"
        for name, body in zip(names, (OTHER, IMAGE), strict=True)
    )
    site.put(f"{folder}/Fedora-Cloud-44-1.10-aarch64-CHECKSUM", signer.clear(sums.encode()))


def put_alpine(site: Site, signer: Signer) -> None:
    site.put(ALPINE.replace("3.23.10", "3.23.9"), OTHER)
    site.put(ALPINE.replace("cloudinit", "tiny").replace("3.23.10", "3.23.11"), OTHER)
    site.put(ALPINE, IMAGE)
    site.put(f"{ALPINE}.sha512", f"{sha('sha512', IMAGE)}\n")


def put_opensuse(site: Site, signer: Signer) -> None:
    path = "/at/distribution/leap/16.0/appliances/Leap-16.0-Minimal-VM.aarch64-Cloud.qcow2"
    site.put(path, IMAGE)
    site.put(f"{path}.sha256", f"{sha('sha256', IMAGE)}  Leap-16.0-Build16.2.qcow2\n")


def put_rocky(site: Site, signer: Signer) -> None:
    name = "Rocky-10-GenericCloud-Base.latest.aarch64.qcow2"
    site.put(f"/at/10/images/aarch64/{name}", IMAGE)
    sums = f"# {name}: {len(IMAGE)} bytes\nSHA256 ({name}) = {sha('sha256', IMAGE)}\n"
    site.put(f"/at/10/images/aarch64/{name}.CHECKSUM", sums)


def put_almalinux(site: Site, signer: Signer) -> None:
    folder, name = "/at/10/cloud/aarch64/images", "AlmaLinux-10-GenericCloud-latest.aarch64.qcow2"
    sums = f"{sha('sha256', IMAGE)}  {name}\n".encode()
    site.put(f"{folder}/{name}", IMAGE)
    site.put(f"{folder}/CHECKSUM", sums)
    site.put(f"{folder}/CHECKSUM.asc", signer.detached(sums, "--armor"))


def put_centos(site: Site, signer: Signer) -> None:
    name = "CentOS-Stream-GenericCloud-10-latest.aarch64.qcow2"
    site.put(f"/at/10-stream/aarch64/images/{name}", IMAGE)
    sums = f"SHA256 ({name}) = {sha('sha256', IMAGE)}\n"
    site.put(f"/at/10-stream/aarch64/images/{name}.SHA256SUM", sums)


def put_archlinuxarm(site: Site, signer: Signer) -> None:
    path = "/at/ArchLinuxARM-armv7-latest.tar.gz"
    site.put(path, IMAGE)
    site.put(f"{path}.sig", signer.detached(IMAGE))


def put_freebsd(site: Site, signer: Signer) -> None:
    for release, body in (("15.0", OTHER), ("15.1", IMAGE)):
        folder = f"/at/VM-IMAGES/{release}-RELEASE/aarch64/Latest"
        name = f"FreeBSD-{release}-RELEASE-arm64-aarch64-BASIC-CLOUDINIT-ufs.qcow2.xz"
        site.put(f"{folder}/{name}", body)
        site.put(f"{folder}/CHECKSUM.SHA512", f"SHA512 ({name}) = {sha('sha512', body)}\n")


def put_linuxcontainers(site: Site, signer: Signer) -> None:
    versions = {}
    for version, body in (("20261120_05:24", OTHER), ("20261121_05:24", IMAGE)):
        path = f"images/debian/trixie/armhf/cloud/{version}/rootfs.tar.xz"
        site.put(f"/at/{path}", body)
        item = {"ftype": "root.tar.xz", "path": path, "sha256": sha("sha256", body)}
        versions[version] = {"items": {"root.tar.xz": item, "incus.tar.xz": {"path": "x"}}}
    versions["20261122_05:24"] = {"items": {"incus.tar.xz": {"path": "x"}}}
    index = {"products": {"debian:trixie:armhf:cloud": {"versions": versions}}}
    site.put("/at/streams/v1/images.json", json.dumps(index))
