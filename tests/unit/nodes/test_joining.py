"""A machine that joins: what it refuses before it sends anything; certificates; reports."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store
from jsonschema import Draft202012Validator
from nodes_kit import GIVEN, MEMBER, REPORT

from dozencloud import RELEASE
from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, changing, keep, members, membership
from dozencloud.cloud.plan import Node
from dozencloud.cloud.settings import parse
from dozencloud.errors import Exit, Problem
from dozencloud.nodes import reports, schemas, tokens
from dozencloud.nodes.controller import authority, broker, enrol
from dozencloud.nodes.joined import agent, joining, leaving
from dozencloud.nodes.joined.client import checked_url
from dozencloud.nodes.reports import Report
from dozencloud.nodes.tokens import Reason, Refused, Token

CHASSIS = "5f0e3b2a-8a55-4d0e-9a3e-3c4c5e0a1b2c"


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path / "controller")
    tls.folder(cloud).mkdir(parents=True)
    certificates.issue_gateway(cloud)
    return cloud


class Gateway(ThreadingHTTPServer):
    """Answers as a controller's gateway does, with its certificate; keeps what it was asked."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cloud, self.asked, self.off = cloud, list[tuple[str, bytes]](), 0.0
        self.says: tuple[int, Any] = (404, {})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = tls.folder(cloud)
        context.load_cert_chain(folder / "gateway.crt", folder / "gateway.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.server.off, usegmt=True)

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, b""))
        self._answer(200, self.server.cloud.ca.read_bytes())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, body))
        code, says = self.server.says
        self._answer(code, says if isinstance(says, bytes) else json.dumps(says).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway(cloud: Cloud) -> Iterator[Gateway]:
    with Gateway(cloud) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def machine(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "machine")


# ---- the address of the controller --------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("https://192.168.1.10", "https://192.168.1.10"),
        ("https://cloud.example:8443/", "https://cloud.example:8443"),
        ("192.168.1.10", "https://192.168.1.10"),
    ],
)
def test_addresses(typed: str, url: str) -> None:
    assert checked_url(typed) == url


@pytest.mark.parametrize(
    "typed",
    [
        "http://192.168.1.10",
        "https://",
        "https://u:p@h",
        "https://h/path",
        "https://h:x",
        "ftp://h",
    ],
)
def test_addresses_that_are_none(typed: str) -> None:
    with pytest.raises(Problem, match="is not the address of a controller") as refused:
        checked_url(typed)
    assert refused.value.code is Exit.USAGE


# ---- before anything is sent --------------------------------------------------------------


def test_another_cloud_gets_nothing(gateway: Gateway, machine: Cloud) -> None:
    token = Token("0" * 64, "1" * 8, "2" * 48)
    with pytest.raises(Problem, match="is not the cloud that made this token"):
        joining.enrol(machine, gateway.url, token)
    assert [path for path, _ in gateway.asked] == ["/ca.crt"]
    assert not machine.etc.exists()


def test_a_clock_that_is_off_is_said(gateway: Gateway, machine: Cloud) -> None:
    token = tokens.make(gateway.cloud, lifetime=60)
    gateway.off = -86400 * 3
    with pytest.raises(Problem, match="clock is 3 days ahead of the controller's") as refused:
        joining.enrol(machine, gateway.url, token)
    assert refused.value.code is Exit.UNFIT
    assert re.search(r": sudo date -s '-2(59|60)\d\d\d seconds'$", refused.value.mend)
    assert not machine.etc.exists()


def test_nobody_is_there(machine: Cloud) -> None:
    token = Token("0" * 64, "1" * 8, "2" * 48)
    with pytest.raises(Problem, match=r"127\.0\.0\.1:1 cannot be reached: Connection refused"):
        joining.enrol(machine, "https://127.0.0.1:1", token)


def test_a_machine_with_a_cloud_is_refused(gateway: Gateway) -> None:
    (gateway.cloud.etc / "secrets.json").write_text("{}")
    token = tokens.make(gateway.cloud, lifetime=60)
    with pytest.raises(Problem, match="has a cloud of its own"):
        joining.enrol(gateway.cloud, gateway.url, token)


def test_refused_it_leaves_nothing(gateway: Gateway, machine: Cloud) -> None:
    token = tokens.make(gateway.cloud, lifetime=60)
    gateway.says = 403, {"what": "This token has ended.", "mend": "Make a new one."}
    with pytest.raises(Refused, match="This token has ended"):
        joining.enrol(machine, gateway.url, token)
    assert not machine.etc.exists()


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (404, b"<html>", "takes no nodes"),
        (503, b"This service of the cloud is not running", "takes no nodes just now"),
        (200, b"<html>", "not as a controller does"),
        (500, {"what": "The disk is full.", "mend": ""}, "The disk is full"),
    ],
)
def test_what_else_is_answered(
    gateway: Gateway, machine: Cloud, code: int, body: object, words: str
) -> None:
    token = tokens.make(gateway.cloud, lifetime=60)
    gateway.says = code, body
    with pytest.raises(Problem, match=words):
        joining.enrol(machine, gateway.url, token)


def test_the_same_machine_goes_on_with_the_same_key(gateway: Gateway, machine: Cloud) -> None:
    token = tokens.make(gateway.cloud, lifetime=60)
    gateway.says = 500, {"what": "Cut off.", "mend": ""}
    for _ in range(2):
        with pytest.raises(Problem):
            joining.enrol(machine, gateway.url, token, name="pi-1")
    first, second = (json.loads(body) for path, body in gateway.asked if path.endswith("join"))
    assert first["chassis"] == second["chassis"]
    keys = [authority.key_hash(x509.load_pem_x509_csr(r["csr"].encode())) for r in (first, second)]
    assert keys[0] == keys[1]
    gateway.says = 200, {"membership": asdict(GIVEN), "certificate": "PEM"}
    assert joining.enrol(machine, gateway.url, token, name="pi-1") == GIVEN
    assert membership(machine) == GIVEN
    for name in ("membership.json", "tls/node.key"):
        assert (machine.etc / name).stat().st_mode & 0o777 == 0o600


def test_a_node_stays_in_its_cloud(machine: Cloud) -> None:
    machine.etc.mkdir(parents=True)
    keep(machine, GIVEN)
    token = Token("0" * 64, "1" * 8, "2" * 48)
    assert joining.enrol(machine, GIVEN.controller, token) == GIVEN
    with pytest.raises(Problem, match=r"is a node of the cloud at .*:8443 already"):
        joining.enrol(machine, "https://192.0.2.77", token)


def test_no_secret_in_what_is_printed() -> None:
    for secret in (GIVEN.broker_password, GIVEN.identity_password, GIVEN.secret):
        assert secret not in repr(GIVEN)


# ---- what the controller takes ------------------------------------------------------------


def asked(**changed: object) -> dict[str, object]:
    key = ec.generate_private_key(ec.SECP256R1())
    return {
        "token": "11111111.22",
        "name": "pi-1",
        "chassis": CHASSIS,
        "csr": joining.request(key, CHASSIS),
        "address": "",
        "release": RELEASE,
        **changed,
    }


def test_the_address_is_the_one_that_was_seen_unless_said() -> None:
    assert enrol.JoinRequest.read(asked(), "192.0.2.9").address == "192.0.2.9"
    assert enrol.JoinRequest.read(asked(address="10.1.1.1"), "192.0.2.9").address == "10.1.1.1"


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": "Pi"},
        {"name": "-pi"},
        {"name": "a" * 43},
        {"name": "../../etc"},
        {"name": "pi\n"},
        {"name": 7},
        {"chassis": "x"},
        {"csr": "-----BEGIN"},
        {"csr": ""},
        {"address": "::1"},
        {"address": "pi.local"},
        {"release": None},
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(Refused):
        enrol.JoinRequest.read(asked(**changed), "192.0.2.9")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        *((data, "it is not an object") for data in (None, [], "x")),
        ({}, "token is missing"),
        ({"token": 7}, "name is missing"),
        (dict.fromkeys(schemas.JOIN["required"], 7), "token is not text"),
        ({**dict.fromkeys(schemas.JOIN["required"], ""), "networks": 7}, "networks is not text"),
    ],
)
def test_what_is_no_request_is_refused(data: object, why: str) -> None:
    with pytest.raises(Refused, match=f"not what this release expects: {why}"):
        enrol.JoinRequest.read(data, "192.0.2.9")


def test_what_a_later_release_says_too_is_let_through() -> None:
    said = asked(networks="23.03")
    request = enrol.JoinRequest.read({**said, "of a later one": [1]}, "192.0.2.9")
    assert (request.networks, request.release) == ("23.03", RELEASE)
    assert enrol.JoinRequest.read(asked(), "192.0.2.9").networks == ""


def test_a_node_of_another_release_is_let_in_or_told_why_not() -> None:
    enrol.wanted(RELEASE)
    with pytest.raises(Refused, match=r"has release 99\.0\.1 .*On the controller first"):
        enrol.wanted("99.0.1")
    with pytest.raises(Refused, match=r"has release x .*too old"):
        enrol.wanted("x")


@pytest.mark.parametrize(
    "changed", [{}, {"name": "pi-1"}, {"release": "99.0.1"}, {"release": "x"}], ids=str
)
def test_who_has_no_token_hears_nothing_of_the_cloud(
    cloud: Cloud, changed: dict[str, object]
) -> None:
    """Neither what its nodes are called nor its release."""
    with changing(cloud, "members") as rows:
        rows.append(asdict(MEMBER))
    request = enrol.JoinRequest.read(asked(**changed), "192.0.2.9")
    with pytest.raises(Refused, match=r"does not know this token, or it was revoked") as refused:
        enrol.join(cloud, request)
    assert RELEASE not in str(refused.value)


def test_a_node_is_known_by_its_secret(cloud: Cloud) -> None:
    assert members(cloud) == ()
    with pytest.raises(Refused, match="does not know the node pi-1"):
        enrol.authenticated(cloud, "pi-1", "s" * 48)


# ---- certificates -------------------------------------------------------------------------


def signed(cloud: Cloud) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.load_pem_x509_csr(joining.request(key, "a name that it wishes").encode())
    pem = authority.sign(cloud, request, CHASSIS, "192.0.2.9")
    return x509.load_pem_x509_certificate(pem.encode())


def lets_in(cloud: Cloud, certificate: x509.Certificate) -> bool:
    """Whether who trusts the authorities of nodes lets it in as a client."""
    trusted = x509.load_pem_x509_certificates(authority.trusted(cloud).read_bytes())
    try:
        PolicyBuilder().store(Store(trusted)).build_client_verifier().verify(certificate, [])
    except x509.verification.VerificationError:
        return False
    return True


def test_a_node_is_called_what_the_controller_says(cloud: Cloud) -> None:
    made = signed(cloud)
    (name,) = made.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == CHASSIS
    assert lets_in(cloud, made)


def test_replaced_the_authority_shuts_all_out(cloud: Cloud) -> None:
    before = signed(cloud)
    authority.replace(cloud, keep_old=True)
    assert lets_in(cloud, before)
    authority.replace(cloud, keep_old=False)
    assert not lets_in(cloud, before)
    assert lets_in(cloud, signed(cloud))


def test_a_node_sees_that_it_needs_another(cloud: Cloud, machine: Cloud) -> None:
    tls.folder(machine).mkdir(parents=True)
    (tls.folder(machine) / "node.crt").write_bytes(certificates.pem(signed(cloud)))

    def good() -> str:
        return authority.identifier(authority.authority(cloud).certificate)

    assert not agent.stale(machine, good())
    authority.replace(cloud, keep_old=True)
    assert agent.stale(machine, good())


def test_a_node_s_certificate_is_no_user_s(cloud: Cloud) -> None:
    """The cloud's own authority, which users trust, did not issue it."""
    store = Store([x509.load_pem_x509_certificate(cloud.ca.read_bytes())])
    with pytest.raises(x509.verification.VerificationError):
        PolicyBuilder().store(store).build_client_verifier().verify(signed(cloud), [])


# ---- reports ------------------------------------------------------------------------------


def test_a_report_is_read_as_it_was_written() -> None:
    assert Report.read(json.loads(json.dumps(asdict(REPORT)))) == REPORT


TEXT = "is not a line of text of less than 200 characters"
CLUSTERS = "is not a list of models with their numbers of CPUs"
SENT = json.loads(json.dumps(asdict(REPORT)))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"board": "a\x1b[2Jb"}, f"board {TEXT}"),
        ({"board": "x" * 300}, f"board {TEXT}"),
        ({"board": None}, f"board {TEXT}"),
        ({"issuer": 7}, f"issuer {TEXT}"),
        ({"memory": "much"}, "memory is not a number"),
        ({"temperature": "hot"}, "temperature is not a number, or null"),
        ({"kvm": "no"}, "kvm is not true or false"),
        ({"encapsulation": "gre"}, "encapsulation is not one of geneve, vxlan"),
        ({"clusters": 3}, f"clusters {CLUSTERS}"),
        ({"clusters": [["a"]]}, f"clusters {CLUSTERS}"),
        ({"clusters": [["a", 1, 2]]}, f"clusters {CLUSTERS}"),
        ({"clusters": [["a", "b"]]}, f"clusters {CLUSTERS}"),
        ({"clusters": [["a\x1b[2J", 1]]}, f"clusters {CLUSTERS}"),
    ],
    ids=str,
)
def test_a_report_that_is_none(cloud: Cloud, changed: dict[str, object], why: str) -> None:
    with pytest.raises(Refused) as refused:
        reports.keep(cloud, MEMBER, {**SENT, **changed})
    assert refused.value.what == f"The report of {MEMBER.name} cannot be read: {why}."


@pytest.mark.parametrize("name", schemas.REPORT["required"])
def test_a_report_that_lacks_something(cloud: Cloud, name: str) -> None:
    with pytest.raises(Refused, match=f"cannot be read: {name} is missing"):
        reports.keep(cloud, MEMBER, {key: SENT[key] for key in SENT if key != name})


def test_what_is_no_object_is_no_report(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="cannot be read: it is not an object"):
        reports.keep(cloud, MEMBER, [SENT])


def test_every_field_of_a_report_is_checked() -> None:
    sent = [field for field in fields(Report) if field.name != "seen"]
    assert set(schemas.REPORT["properties"]) == {field.name for field in sent}
    assert schemas.REPORT["required"] == [f.name for f in sent if f.default is MISSING]


@pytest.mark.parametrize("schema", [schemas.JOIN, schemas.CERTIFICATE, schemas.REPORT])
def test_schemas_are_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schemas.wrong(schema, None) == "it is not an object"


def test_a_kept_report_is_read_as_it_was(cloud: Cloud) -> None:
    cloud.run.mkdir(parents=True)
    told = reports.keep(cloud, MEMBER, {**SENT, "of a later one": {}})
    last = reports.last(cloud, MEMBER.name)
    assert told == REPORT
    assert last and last.seen > 0 and replace(last, seen=0.0) == REPORT


def test_this_machine_reports_itself(cloud: Cloud) -> None:
    cloud.lib.mkdir(parents=True, exist_ok=True)
    here = Node("pi-1", CHASSIS, "qemu", "system", "armv7l", False, encapsulation="vxlan")
    (cloud.lib / "node.json").write_text(json.dumps(asdict(here)))
    found = agent.observed(cloud)
    assert found.encapsulation == "vxlan"
    assert Report.read(json.loads(json.dumps(asdict(found)))) == replace(found)
    assert found.memory >= found.available > 0
    assert reports.last(cloud, "pi-1") is None


# ---- nodes that trust each other ----------------------------------------------------------


def test_nodes_trust_each_other_only_where_that_is_set(cloud: Cloud) -> None:
    member = Member("pi-1", 1, CHASSIS, GIVEN.address, "compute", "", "", 0.0)
    csr = joining.request(ec.generate_private_key(ec.SECP256R1()), CHASSIS)
    assert enrol.peer(cloud, member, csr) == {"migration": ""}
    cloud = replace(cloud, settings=parse({"nodes": {"migration": True}}))
    answer = enrol.peer(cloud, member, csr)
    assert answer["migration"] == authority.peers(cloud) != ""
    made = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert not lets_in(cloud, made)
    assert made.issuer == x509.load_pem_x509_certificate(answer["streams"].encode()).subject
    authority.replace(cloud, keep_old=True)
    assert authority.peers(cloud) != answer["migration"]


@pytest.mark.parametrize(
    ("peers", "exchange", "topic", "may"),
    [
        ((), "nova", "conductor", True),
        ((), "nova", "compute.pi-1", True),
        ((), "nova", "compute.pi-2", False),
        ((), "dozen-answers", "reply_node-pi-2", False),
        (("pi-1", "pi-2"), "nova", "compute.pi-2", True),
        (("pi-1", "pi-2"), "nova", "compute-alt.pi-2", True),
        (("pi-1", "pi-2"), "nova", "compute.pi-2x", False),
        (("pi-1", "pi-2"), "nova", "compute.controller", False),
        (("pi-1", "pi-2"), "nova", "compute", False),
        (("pi-1", "pi-2"), "nova", "scheduler", False),
        (("pi-1", "pi-2"), "dozen-answers", "reply_node-pi-2", True),
        (("pi-1", "pi-2"), "dozen-answers", "reply_node-pi-2x", False),
        (("pi-1", "pi-2"), "dozen-answers", f"reply_{'0' * 32}", True),
        (("pi-1", "pi-2"), "dozen-answers", "compute.pi-2", False),
    ],
)
def test_what_a_node_may_say(peers: tuple[str, ...], exchange: str, topic: str, may: bool) -> None:
    (said,) = (each for each in broker.topics("pi-1", peers) if each["exchange"] == exchange)
    assert bool(re.search(said["write"], topic)) == may


GONE = {"what": "The cloud does not know the node pi-1.", "mend": "Join anew."}


@pytest.mark.parametrize(
    ("status", "body", "untold"),
    [
        # By its reason, whatever the words are.
        (403, GONE | {"reason": "unknown-node"}, ""),
        (403, {"what": "Neuer Satz.", "mend": "", "reason": "unknown-node"}, ""),
        (403, GONE | {"what": "2 server(s) are on pi-1, or has shut it out."}, None),
        (403, GONE | {"reason": "one of a newer release"}, None),
        (500, GONE | {"reason": "unknown-node"}, GONE["what"]),
        (200, {}, ""),
    ],
)
def test_leaving_goes_by_the_reason(
    gateway: Gateway, status: int, body: object, untold: str | None
) -> None:
    gateway.says = status, body
    given = replace(GIVEN, controller=gateway.url)
    if untold is None:
        with pytest.raises(Refused):
            leaving.tell(gateway.cloud, given)
    else:
        assert leaving.tell(gateway.cloud, given) == untold


def test_the_controller_gives_the_reason(gateway: Gateway) -> None:
    with pytest.raises(Refused) as refused:
        enrol.authenticated(gateway.cloud, "pi-9", "x")
    assert refused.value.reason is Reason.UNKNOWN_NODE


def test_no_number_is_the_last() -> None:
    assert enrol._free([{"number": number} for number in range(1, 400)]) == 400
    assert enrol._free([{"number": 1}, {"number": 3}]) == 2
