"""Certificates of nodes: an authority of their own, which the broker's gate and OVN trust.

It is not the cloud's, which users trust: replaced, it shuts every node out that is not given a new
certificate, and Open vSwitch knows no revocation lists.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.certificates import CLIENT, SERVER, Authority
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import console_name, nodes_folder
from dozencloud.cloud.state import digest
from dozencloud.private import write_private
from dozencloud.services.ovn import USER as OVN_USER


def trusted(cloud: Cloud) -> Path:
    """Certificates of the authorities whose nodes are let in, PEM."""
    return nodes_folder(cloud) / "trusted.crt"


def authority(cloud: Cloud) -> Authority:
    """The one that issues to nodes now; made with the first token."""
    folder = nodes_folder(cloud)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = Authority.kept(folder / "ca.crt", folder / "ca.key", f"DozenCloud {cloud.name} nodes")
    if not trusted(cloud).exists():
        write_private(trusted(cloud), certificates.pem(here.certificate), 0o644)
    return here


def streams(cloud: Cloud) -> Authority:
    """Issues to the QEMUs of nodes, for the streams of servers that move; opens nothing else.

    A guest that broke out of its QEMU can read the key there.
    """
    folder = nodes_folder(cloud)
    return Authority.kept(
        folder / "streams.crt", folder / "streams.key", f"DozenCloud {cloud.name} streams"
    )


def peers(cloud: Cloud) -> str:
    """Changes with what nodes know each other by; empty where they trust the controller only."""
    if not cloud.settings.nodes.migration:
        return ""
    authority(cloud)
    return digest(trusted(cloud).read_text(), certificates.pem(streams(cloud).certificate).decode())


def replace(cloud: Cloud, *, keep_old: bool) -> Authority:
    """A new authority. keep_old: certificates of the one before are still let in."""
    folder = nodes_folder(cloud)
    (folder / "streams.crt").unlink(missing_ok=True)
    before = certificates.pem(authority(cloud).certificate) if keep_old else b""
    here = Authority.made(folder / "ca.crt", folder / "ca.key", f"DozenCloud {cloud.name} nodes")
    write_private(trusted(cloud), certificates.pem(here.certificate) + before, 0o644)
    return here


def drop_old(cloud: Cloud) -> None:
    """Let in certificates of the present authority only."""
    write_private(trusted(cloud), certificates.pem(authority(cloud).certificate), 0o644)


def identifier(certificate: x509.Certificate) -> str:
    """Of an authority's key, in hex."""
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()


def issuer(certificate: x509.Certificate) -> str:
    """`identifier` of the authority that issued this certificate."""
    found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return (found.key_identifier or b"").hex()


def sign(cloud: Cloud, request: x509.CertificateSigningRequest, chassis: str, address: str) -> str:
    """A node's certificate, PEM. Of its request only the key is taken.

    Its subject is the chassis: by that OVN's southbound database knows whose rows are whose.
    """
    made = authority(cloud).issue(
        chassis, [address, console_name(address)], request.public_key(), [CLIENT, SERVER]
    )
    return certificates.pem(made).decode()


def sign_streams(cloud: Cloud, request: x509.CertificateSigningRequest, address: str) -> str:
    """A certificate for the QEMUs of the node with that address, PEM."""
    made = streams(cloud).issue(address, [address], request.public_key(), [CLIENT, SERVER])
    return certificates.pem(made).decode()


def key_hash(request: x509.CertificateSigningRequest) -> str:
    """SHA-256 of the public key, in hex."""
    from hashlib import sha256

    form = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(form).hexdigest()


CONTROL_CERTIFICATES = {"southbound": (SERVER, OVN_USER), "controller": (CLIENT, "root")}
"""What the controller shows to nodes: its databases theirs, the gate to consoles its own."""


def control_current(cloud: Cloud) -> bool:
    return trusted(cloud).exists() and all(
        certificates.current(*_files(cloud, name), certificates.gateway_names(cloud))
        for name in CONTROL_CERTIFICATES
    )


def issue_control(cloud: Cloud) -> None:
    """Certificates that the controller needs as soon as it has nodes, from the cloud's own CA."""
    authority(cloud)
    for name, (purpose, owner) in CONTROL_CERTIFICATES.items():
        private = ec.generate_private_key(ec.SECP256R1())
        made = certificates.authority(cloud).issue(
            name, certificates.gateway_names(cloud), private.public_key(), [purpose]
        )
        certificates.replace_pair(tls.folder(cloud) / name, certificates.pem(made), private, owner)


def _files(cloud: Cloud, name: str) -> tuple[Path, Path]:
    folder = tls.folder(cloud)
    return folder / f"{name}.crt", folder / f"{name}.key"
