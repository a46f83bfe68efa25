"""What the controller answers to nodes, by HTTP: bodies that do not fit, and some that do."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from nodes_kit import MEMBER, REPORT

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import changing
from dozencloud.cloud.plan import Node
from dozencloud.nodes.controller import enrol
from dozencloud.nodes.joined import joining

SECRET = "s" * 48
Post = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    """POST WHAT as the node `pi-1`, whose name or secret may be others."""
    cloud = Cloud(tmp_path)
    tls.folder(cloud).mkdir(parents=True)
    certificates.issue_gateway(cloud)
    for folder in (cloud.run, cloud.lib):
        folder.mkdir()
    here = Node("controller", "c", "qemu", "system", "aarch64", False)
    (cloud.lib / "node.json").write_text(json.dumps(asdict(here)))
    with changing(cloud, "members") as rows:
        rows.append(asdict(replace(MEMBER, secret=enrol._hash(SECRET))))
    monkeypatch.setenv("DOZEN_ROOT", "/nowhere")  # read once, by the import
    service = importlib.import_module("dozencloud.nodes.controller.service")
    monkeypatch.setattr(service, "cloud", cloud)
    client = service.application.test_client()

    def ask(what: str, body: object, secret: str = SECRET) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, str) else json.dumps(body)
        answer = client.post(
            f"/v1/{what}", data=data, content_type="application/json", auth=("pi-1", secret)
        )
        return answer.status_code, answer.get_json()

    return ask


@pytest.mark.parametrize(
    ("what", "body", "why"),
    [
        ("join", "no JSON", "The request is not what this release expects: it is not an object."),
        ("join", {"token": "t"}, "The request is not what this release expects: name is missing."),
        ("report", [], "The report of pi-1 cannot be read: it is not an object."),
        ("certificate", {}, "The request is not what this release expects: csr is missing."),
        (
            "certificate",
            {"csr": 7},
            "The request is not what this release expects: csr is not text.",
        ),
        ("certificate", {"csr": "x"}, "The request for a certificate is damaged."),
        ("peers", {"csr": None}, "The request is not what this release expects: csr is not text."),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_words(
    post: Post, what: str, body: object, why: str
) -> None:
    code, said = post(what, body)
    assert (code, said["what"]) == (403, why)


@pytest.mark.parametrize("what", ["report", "certificate", "peers", "state", "leave"])
def test_who_is_not_known_hears_nothing_of_the_body(post: Post, what: str) -> None:
    code, said = post(what, "no JSON", secret="another")
    assert (code, said["reason"]) == (403, "unknown-node")


def test_a_node_gets_a_certificate_for_its_key(post: Post) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sent = {"csr": joining.request(key, "anything"), "of a later one": 1}
    code, said = post("certificate", sent)
    assert code == 200
    made = x509.load_pem_x509_certificate(said["certificate"].encode())
    assert made.public_key() == key.public_key()


def test_a_report_that_fits_is_kept_and_answered(post: Post, tmp_path: Path) -> None:
    code, said = post("report", {**json.loads(json.dumps(asdict(REPORT))), "of a later one": 1})
    assert code == 200
    assert set(said) == {"authority", "migration", "encapsulations"}
    kept = json.loads((tmp_path / "run" / "nodes" / "pi-1.json").read_text())
    assert kept["board"] == REPORT.board
    assert "of a later one" not in kept
