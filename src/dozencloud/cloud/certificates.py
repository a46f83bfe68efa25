"""The cloud's own certificate authorities, and the certificates that they issue.

ECDSA P-256 throughout; profiles follow RFC 5280. Keys of authorities never leave their folders.
There are two: the cloud's, which users and nodes trust, and from the first node on one that issues
certificates to nodes only. The second is replaced when a node is shut out.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.tls import folder, make_folder
from dozencloud.private import write_private

CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30


def gateway_names(cloud: Cloud) -> list[str]:
    """Names and addresses that the gateway's certificate is good for."""
    found = [cloud.address, "127.0.0.1", "localhost", socket.gethostname()]
    found += [cloud.provider_address] if cloud.provider_address else []
    return list(dict.fromkeys(found))


def _subject(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def save_key(path: Path, key: ec.EllipticCurvePrivateKey, owner: str | None = None) -> None:
    write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        owner=owner,
    )


def replace_pair(
    place: Path, certificate: bytes, key: ec.EllipticCurvePrivateKey, owner: str | None = None
) -> None:
    """Write `place`.key and .crt for a running Open vSwitch or OVN daemon, which follows.

    It reads both when it sees that both have changed since; but if it has seen a new key beside
    the old certificate it waits for yet another key (stream_ssl_set_key_and_cert in stream-ssl.c).
    """
    path = place.with_suffix(".key")
    save_key(path, key, owner)
    write_private(place.with_suffix(".crt"), certificate, owner=owner)
    path.touch()


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Authority:
    """A certificate authority that is kept in two files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def kept(cls, certificate: Path, key: Path, name: str) -> Self:
        """The one in these files; made if it is not there."""
        if not (certificate.exists() and key.exists()):
            return cls.made(certificate, key, name)
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key} is not an EC key")
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)

    @classmethod
    def made(cls, certificate: Path, key: Path, name: str) -> Self:
        """A new one, in place of what the files hold."""
        private, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        public = private.public_key()
        made = (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .issuer_name(_subject(name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            # A board without a battery-backed clock may be behind.
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(AUTHORITY_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(private, hashes.SHA256())
        )
        save_key(key, private)
        write_private(certificate, pem(made), 0o644)
        return cls(made, private)

    def issue(
        self,
        subject: str,
        names: Sequence[str],
        public: CertificatePublicKeyTypes,
        purposes: Sequence[x509.ObjectIdentifier],
    ) -> x509.Certificate:
        """A certificate for LEAF_DAYS. names: host names and addresses that it is good for."""
        now = datetime.now(UTC)
        issuer = self.key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(subject))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # No key usage: libvirt and QEMU demand that it permits key encipherment, too, which it
            # must not for an ECDSA key (virNetTLSContextCheckCertKeyUsage; RFC 8813).
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def authority(cloud: Cloud) -> Authority:
    """The cloud's own, which users trust."""
    return Authority.kept(cloud.ca, folder(cloud) / "ca.key", f"DozenCloud {cloud.name} CA")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def current(certificate: Path, key: Path, names: Sequence[str]) -> bool:
    """True if both files are there, good for the names, and not about to end."""
    if not (certificate.exists() and key.exists()):
        return False
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    if leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS):
        return False
    held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {_alternative(name) for name in names} <= set(held)


def gateway_current(cloud: Cloud) -> bool:
    """True if the gateway's certificate is there, names this machine, and is not about to end."""
    place = folder(cloud)
    return cloud.ca.exists() and current(
        place / "gateway.crt", place / "gateway.key", gateway_names(cloud)
    )


def issue_gateway(cloud: Cloud) -> None:
    """Make the CA if there is none, and the gateway's certificate anew."""
    place = folder(cloud)
    make_folder(cloud)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority(cloud).issue(cloud.address, gateway_names(cloud), key.public_key(), [SERVER])
    save_key(place / "gateway.key", key)
    write_private(place / "gateway.crt", pem(leaf))
