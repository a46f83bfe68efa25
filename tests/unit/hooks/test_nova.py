"""What Nova's API and conductor do differently: hostnames, and the last word on a failed server."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from neutron_lib.api.validators import dns
from neutronclient.common.exceptions import BadRequest
from nova.api.openstack.compute.schemas import servers as schemas
from nova.api.validation.validators import _SchemaValidator
from nova.compute import utils as compute_utils
from nova.compute.api import API
from nova.conductor import manager
from nova.exception import (
    BuildAbortException,
    MaxRetriesExceeded,
    NoValidHost,
    ValidationError,
    VirtualInterfaceCreateException,
)
from nova.objects.instance import Instance
from nova.objects.request_spec import RequestSpec
from nova.scheduler import utils as scheduler_utils

from dozencloud.hooks.nova import faults, hostnames, lastword
from nova import objects, utils

objects.register_all()

REASON = "Invalid input for dns_name. Reason: 'é' not a valid PQDN or FQDN."


@pytest.fixture(autouse=True, scope="module")
def hooked() -> Iterator[None]:
    """Upstream with our hooks, for these tests; its schemas keep what they got."""
    with pytest.MonkeyPatch.context() as patch:
        for place, name in (
            (utils, "sanitize_hostname"),
            (API, "_populate_instance_names"),
            (compute_utils, "exception_to_dict"),
            (manager, "ComputeTaskManager"),
        ):
            patch.setattr(place, name, getattr(place, name))
        for each in (hostnames, faults, lastword):
            each.use()
        yield


def named(name: str, hostname: str | None = None, number: int = 1) -> str:
    """The hostname of a new server."""
    instance = Instance(uuid="b9d132f7-28b2-4122-9f22-720b5fa926a8", display_name=name)
    if hostname:
        instance.hostname = hostname
    API._populate_instance_names(None, instance, number, 0)
    return str(instance.hostname)


def neutron_takes(hostname: str) -> bool:
    """By its own check, before which it makes all letters small."""
    return dns._validate_dns_format(hostname.lower()) is None


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("étudiant", "etudiant"),
        ("Schüler 01", "schuler-01"),
        ("ß", "ss"),
        ("naïve.example.org", "naive-example-org"),
        ("Größe Küche 日本", "grosse-kuche"),
        ("123", "123"),
        ("1.2.3.4", "1-2-3-4"),
        ("-x", "x"),
        ("my_server.lab", "my-server-lab"),
        ("x.", "x"),
        ("İstanbul", "istanbul"),
        ("Łódź", "lodz"),
        ("Þór Æ Œ Ø Đ \u0131 ª ½", "thor-ae-oe-o-d-i-a-12"),
        ("Ω-lab", "lab"),
        ("lab (1)", "lab-1"),
        ("日本", "Server-b9d132f7-28b2-4122-9f22-720b5fa926a8"),
        ("ñ" * 80, "n" * 63),
        ("ß" * 80, "s" * 63),
        ("a" * 62 + " b", "a" * 62),
    ],
)
def test_a_name_in_any_language_makes_a_hostname_that_neutron_takes(
    name: str, hostname: str
) -> None:
    assert named(name) == hostname
    assert neutron_takes(hostname)
    many = named(name, number=2)
    assert many == (hostname if hostname.startswith("Server-") else f"{hostname}-1")


@pytest.mark.parametrize(
    ("asked", "hostname"),
    [
        ("web.example.com.", "web.example.com"),
        ("web.example.com", "web.example.com"),
        ("Web-1", "Web-1"),
        ("x", "x"),
        ("123", "123"),
        ("3.lab", "3.lab"),
    ],
)
def test_a_hostname_that_is_one_is_taken(asked: str, hostname: str) -> None:
    validate(schemas.create_v294, {"server": {**NEW, "hostname": asked}})
    assert named("web", asked) == hostname
    assert neutron_takes(hostname)


NEW = {"name": "web", "imageRef": "", "flavorRef": "1", "networks": "none"}
SOME_ID = "b9d132f7-28b2-4122-9f22-720b5fa926a8"


def validate(schema: dict[str, Any], body: dict[str, Any]) -> None:
    _SchemaValidator(schema).validate(body)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        ".",
        "a..b",
        "-x",
        "x-",
        "a.-b",
        "my_host",
        "lab.123",
        "a" * 64,
        "a." * 130 + "a",
        "web..",
        "é",
    ],
)
def test_a_hostname_that_is_none_is_refused_at_once(asked: str) -> None:
    for schema, body in (
        (schemas.create_v294, {"server": {**NEW, "hostname": asked}}),
        (schemas.update_v2104, {"server": {"hostname": asked}}),
        (schemas.rebuild_v294, {"rebuild": {"imageRef": SOME_ID, "hostname": asked}}),
    ):
        with pytest.raises(ValidationError) as refused:
            validate(schema, body)
        assert "A hostname has letters, digits and hyphens" in str(refused.value)


def failed(filter_properties: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the conductor says of a server that no other node can take."""
    said: list[Any] = []
    # What is said goes to the database; no database here.
    monkeypatch.setattr(
        scheduler_utils, "set_vm_state_and_notify", lambda *words: said.append(words[5])
    )
    conductor = manager.ComputeTaskManager.__new__(manager.ComputeTaskManager)
    # Neither does this process speak with Neutron.
    conductor._cleanup_allocated_networks = lambda *words: None
    request = SimpleNamespace(to_legacy_request_spec_dict=dict)
    server = SimpleNamespace(uuid=SOME_ID, flavor=SimpleNamespace(extra_specs={}))
    monkeypatch.setattr(RequestSpec, "from_primitives", lambda *words: request)
    conductor.build_instances(
        *(None, [server], {}, filter_properties, "", [], None, []),
        request_spec=request,
        host_lists=[[]],
    )
    return said


def test_why_the_last_node_failed_is_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    retry = {"num_attempts": 1, "hosts": [], "exc": ["..."], "exc_reason": REASON}
    (said,) = failed({"retry": retry}, monkeypatch)
    assert compute_utils.exception_to_dict(said)["message"] == REASON


def test_where_no_node_said_anything_upstreams_word_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (said,) = failed({"retry": {"num_attempts": 1, "hosts": []}}, monkeypatch)
    assert isinstance(said, MaxRetriesExceeded)
    assert not lastword.told.get()


def test_a_resize_has_the_reason_as_a_traceback() -> None:
    retry = {"exc": ["nova.exception.ResizeError: Resize error: not enough memory\n"]}
    assert lastword.of_node({"retry": retry}) == "Resize error: not enough memory"
    assert lastword.of_node({}) == lastword.of_node(None) == ""


class libvirtError(Exception):  # noqa: N801
    """As libvirt's, which this environment need not have."""

    __module__ = "libvirt"


def hidden(reason: str, by: Exception) -> BuildAbortException:
    try:
        try:
            raise by
        except Exception:
            raise BuildAbortException(instance_uuid=SOME_ID, reason=reason)  # noqa: B904
    except BuildAbortException as fault:
        return fault


NETWORKS = "Failed to allocate the network(s), not rescheduling."
LIMIT = "internal error: cannot limit core file size of process 3: Operation not permitted"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (libvirtError(LIMIT), LIMIT),
        (libvirtError("cannot open /etc/libvirt/x"), "cannot open (a file of the cloud)"),
        (BadRequest(REASON), REASON),
        (hidden(NETWORKS, BadRequest(REASON)), REASON),
        (hidden(NETWORKS, VirtualInterfaceCreateException()), "Virtual Interface creation failed"),
        (hidden(NETWORKS, KeyError("x")), f"Build of instance {SOME_ID} aborted: {NETWORKS}"),
        (hidden("Mend it.", KeyError("x")), f"Build of instance {SOME_ID} aborted: Mend it."),
        (NoValidHost(reason="Why."), "No valid host was found. Why."),
        (KeyError("/etc/secret"), "KeyError"),
    ],
)
def test_a_fault_is_the_cause(fault: Exception, message: str) -> None:
    assert compute_utils.exception_to_dict(fault)["message"] == message


def test_a_fault_fits_whatever_was_left_out() -> None:
    told = compute_utils.exception_to_dict(libvirtError("/etc/a " * 60))["message"]
    assert len(told) == 255
    assert "/etc" not in told
