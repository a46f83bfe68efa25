"""The libvirt driver: what it mends, and that upstream is still what it relies on."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

from nova.virt.libvirt.guest import Guest

import nova.virt
from dozencloud.compute import upstream
from dozencloud.compute.joined import peerfiles
from dozencloud.compute.libvirt import driver, plugging

OURS = {
    "LibvirtDriver": driver.ArmLibvirtDriver,
    "LibvirtGenericVIFDriver": plugging.VIFDriver,
    "RemoteFilesystemDriver": peerfiles.PeerDriver,
}


@pytest.mark.parametrize("kind", ["kvm", "qemu"])
def test_diagnostics_tell_how_the_server_itself_runs(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream's answer is the host's setting, the same for all of its servers."""
    parent = driver.ArmLibvirtDriver.__bases__[0]
    theirs = SimpleNamespace(hypervisor="kvm", uptime=5)
    monkeypatch.setattr(parent, "get_instance_diagnostics", lambda *_: theirs)
    guest = Guest(SimpleNamespace(XMLDesc=lambda _flags: f"<domain type='{kind}'/>"))
    ours = driver.ArmLibvirtDriver.__new__(driver.ArmLibvirtDriver)
    ours._host = SimpleNamespace(get_guest=lambda _instance: guest)
    told = ours.get_instance_diagnostics(object())
    assert (told.hypervisor, told.uptime) == (kind, 5)


# ---- upstream -----------------------------------------------------------------------------


def upstream_object(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", upstream.OVERRIDDEN)
def test_what_is_overridden_is_there_with_these_parameters(name: str) -> None:
    assert tuple(inspect.signature(upstream_object(name)).parameters) == upstream.OVERRIDDEN[name]


@pytest.mark.parametrize("name", upstream.USED)
def test_what_is_used_is_there(name: str) -> None:
    assert callable(upstream_object(name))


@pytest.mark.parametrize("ours", OURS.values())
def test_the_list_of_overrides_is_complete(ours: type) -> None:
    (parent,) = ours.__bases__
    own = {n for n, v in vars(ours).items() if callable(v) and hasattr(parent, n)}
    listed = {n.rpartition(".")[2] for n in upstream.OVERRIDDEN if f":{parent.__name__}." in n}
    assert own - {"__doc__", "__module__"} == listed


def test_an_override_takes_what_upstream_passes() -> None:
    for name, parameters in upstream.OVERRIDDEN.items():
        parent, _, method_name = name.partition(":")[2].partition(".")
        method = getattr(OURS[parent], method_name)
        inspect.signature(method).bind(*parameters)
        inspect.signature(method).bind(**dict.fromkeys(parameters))


# ---- Nova loads it ------------------------------------------------------------------------


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> None:
    """src/nova/virt/dozencloud, where the installed package would be, if it is not installed."""
    source = Path(driver.__file__).parents[3] / "nova" / "virt"
    if source.is_dir():
        monkeypatch.setattr(nova.virt, "__path__", [*nova.virt.__path__, str(source)])


@pytest.mark.usefixtures("door")
def test_nova_finds_the_driver_by_the_name_in_its_configuration() -> None:
    pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")
    from nova.virt.driver import ComputeDriver, load_compute_driver

    made = load_compute_driver(None, "dozencloud.ArmLibvirtDriver")
    assert type(made) is driver.ArmLibvirtDriver
    assert isinstance(made, ComputeDriver)
