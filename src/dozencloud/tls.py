"""The cloud's own certificate authority, and the gateway's certificate.

ECDSA P-256 throughout; profiles follow RFC 5280. The CA's key never leaves `etc/tls`.
"""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dozencloud.cloud import Cloud
from dozencloud.secret import write_private

CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30


def folder(cloud: Cloud) -> Path:
    return cloud.etc / "tls"


def names(cloud: Cloud) -> list[str]:
    """Names and addresses that the gateway's certificate is good for."""
    found = [cloud.address, "127.0.0.1", "localhost", socket.gethostname(), cloud.provider_gateway]
    return list(dict.fromkeys(found))


def _subject(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _save_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def current(cloud: Cloud) -> bool:
    """True if the gateway's certificate is there, names this machine, and is not about to end."""
    certificate, key = folder(cloud) / "gateway.crt", folder(cloud) / "gateway.key"
    if not (certificate.exists() and key.exists() and cloud.ca.exists()):
        return False
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    if leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS):
        return False
    held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {_alternative(name) for name in names(cloud)} <= set(held)


def issue(cloud: Cloud) -> None:
    """Make the CA if there is none, and the gateway's certificate anew."""
    place = folder(cloud)
    now = datetime.now(UTC)
    authority_key = place / "ca.key"
    if authority_key.exists() and cloud.ca.exists():
        loaded = serialization.load_pem_private_key(authority_key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{authority_key} is not an EC key")
        ca_key = loaded
        ca = x509.load_pem_x509_certificate(cloud.ca.read_bytes())
    else:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(f"DozenCloud {cloud.name} CA")
        ca = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(ca_key.public_key())
            .serial_number(x509.random_serial_number())
            # A board without a battery-backed clock may be behind.
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        _save_key(authority_key, ca_key)
        write_private(cloud.ca, ca.public_bytes(serialization.Encoding.PEM), 0o644)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_subject(cloud.address))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=LEAF_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([_alternative(n) for n in names(cloud)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _save_key(place / "gateway.key", key)
    write_private(place / "gateway.crt", leaf.public_bytes(serialization.Encoding.PEM), 0o644)
