"""Certificates: a client that trusts the CA trusts the gateway; renewed in time, kept private."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import Gateway, Network, Settings


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path)
    tls.folder(cloud).mkdir(parents=True)
    certificates.issue_gateway(cloud)
    return cloud


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def leaf(cloud: Cloud) -> x509.Certificate:
    return certificate(tls.folder(cloud) / "gateway.crt")


def verify(cloud: Cloud, name: str, at: datetime | None = None) -> list[x509.Certificate]:
    subject: x509.GeneralName
    try:
        subject = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    builder = PolicyBuilder().store(Store([certificate(cloud.ca)]))
    builder = builder.time(at or datetime.now(UTC))
    return builder.build_server_verifier(subject).verify(leaf(cloud), [])


@pytest.mark.parametrize("which", range(3))
def test_the_chain_verifies_for_every_name(cloud: Cloud, which: int) -> None:
    name = [cloud.address, "127.0.0.1", cloud.provider_gateway][which]
    assert verify(cloud, name) == [leaf(cloud), certificate(cloud.ca)]


def test_names(cloud: Cloud) -> None:
    held = leaf(cloud).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in held.get_values_for_type(x509.IPAddress)}
    assert addresses == {cloud.address, "127.0.0.1", cloud.provider_gateway}
    assert set(held.get_values_for_type(x509.DNSName)) == {"localhost", socket.gethostname()}


@pytest.mark.parametrize("name", ["198.51.100.1", "evil.example"])
def test_no_other_name_is_accepted(cloud: Cloud, name: str) -> None:
    with pytest.raises(VerificationError):
        verify(cloud, name)


@pytest.mark.parametrize("days", [-2, certificates.LEAF_DAYS + 1])
def test_not_before_and_not_after(cloud: Cloud, days: int) -> None:
    with pytest.raises(VerificationError):
        verify(cloud, cloud.address, datetime.now(UTC) + timedelta(days=days))


def test_the_leaf_may_not_sign(cloud: Cloud) -> None:
    own, authority = leaf(cloud), certificate(cloud.ca)
    basics = [c.extensions.get_extension_for_class(x509.BasicConstraints) for c in (own, authority)]
    assert [b.value.ca for b in basics] == [False, True]
    assert all(b.critical for b in basics)
    assert basics[1].value.path_length == 0
    # 398 days: the most that browsers take (CA/Browser Forum, Baseline Requirements 6.3.2).
    assert own.not_valid_after_utc - own.not_valid_before_utc <= timedelta(days=398)


def test_all_but_the_authority_s_certificate_is_private(cloud: Cloud) -> None:
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tls.folder(cloud).iterdir()}
    assert modes == dict.fromkeys(["ca.key", "gateway.key", "gateway.crt"], 0o600) | {
        "ca.crt": 0o644
    }


# ---- renewal ------------------------------------------------------------------------------


def with_settings(cloud: Cloud, **more: object) -> Cloud:
    return replace(cloud, settings=replace(Settings(), **more))  # type: ignore[arg-type]


def test_current_as_long_as_nothing_changes(cloud: Cloud) -> None:
    assert certificates.gateway_current(cloud)


@pytest.mark.parametrize("name", ["gateway.crt", "gateway.key", "ca.crt"])
def test_not_current_without_a_file(cloud: Cloud, name: str) -> None:
    (tls.folder(cloud) / name).unlink()
    assert not certificates.gateway_current(cloud)
    certificates.issue_gateway(cloud)
    assert certificates.gateway_current(cloud)
    assert verify(cloud, "127.0.0.1")


@pytest.mark.parametrize(
    "more",
    [
        {"gateway": Gateway(address="203.0.113.7")},
        {"gateway": Gateway(address="cloud.example")},
        {"network": Network(provider_cidr="203.0.113.0/24")},
    ],
    ids=["address", "name", "network"],
)
def test_a_new_address_gets_a_new_certificate_from_the_same_ca(
    cloud: Cloud, more: dict[str, object]
) -> None:
    moved = with_settings(cloud, **more)
    assert not certificates.gateway_current(moved)
    authority, before = cloud.ca.read_bytes(), leaf(cloud)
    certificates.issue_gateway(moved)
    assert certificates.gateway_current(moved)
    assert cloud.ca.read_bytes() == authority
    assert leaf(cloud).serial_number != before.serial_number
    assert verify(moved, moved.address)
    assert verify(moved, moved.provider_gateway)


@pytest.mark.parametrize(("left", "current"), [(31, True), (29, False), (0, False), (-1, False)])
def test_renewed_before_its_end(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, left: int, current: bool
) -> None:
    monkeypatch.setattr(certificates, "LEAF_DAYS", left)
    certificates.issue_gateway(cloud)
    monkeypatch.undo()
    assert certificates.gateway_current(cloud) is current


# ---- over the wire ------------------------------------------------------------------------


@pytest.fixture
def server(cloud: Cloud) -> Iterator[int]:
    """A TLS server on loopback with the gateway's certificate; takes two connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.folder(cloud) / "gateway.crt", tls.folder(cloud) / "gateway.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as stream:
                    stream.sendall(b"hello")
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_openssl_trusts_it(cloud: Cloud, server: int, name: str) -> None:
    context = ssl.create_default_context(cafile=str(cloud.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", server), 5) as connection,
        context.wrap_socket(connection, server_hostname=name) as stream,
    ):
        assert stream.recv(5) == b"hello"


def test_another_cloud_s_ca_does_not(cloud: Cloud, server: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        other = Cloud(Path(folder))
        tls.folder(other).mkdir(parents=True)
        certificates.issue_gateway(other)
        context = ssl.create_default_context(cafile=str(other.ca))
    with (
        socket.create_connection(("127.0.0.1", server), 5) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")
