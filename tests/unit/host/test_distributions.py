"""Distributions: what each calls what a cloud needs, what it has not, and where it puts things."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dozencloud.cloud.plan import FIRST, JOINED
from dozencloud.facts.system import Architecture, OsRelease
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.base import Distribution
from dozencloud.host.distributions.debian import Debian
from dozencloud.host.distributions.fedora import Fedora
from dozencloud.host.distributions.needs import OF_CONTROLLERS, OF_MACHINES, ON_DEMAND, Need
from dozencloud.host.distributions.ubuntu import Ubuntu
from dozencloud.services import ALL, needs

CONTROL = needs(FIRST, time=False) - needs(JOINED, time=False)
"""What a node that joined does without."""
SUPPORTED = [each(version) for each in registry.known().values() for version in each.versions]
LIBVIRT_11 = {"libvirt-daemon-driver-storage", "libvirt-daemon-log"}
QEMU_X86 = {"qemu-system-x86"}
FOR_ALL = {*Debian("14").wanted("riscv64", needs(FIRST, time=False))}
"""Of every Debian and Ubuntu."""


def title(system: Distribution) -> str:
    return f"{system.id}-{system.version}"


@pytest.mark.parametrize(
    ("system", "machine", "extra"),
    [
        (Debian("12"), "x86_64", QEMU_X86 | {"libvirt-daemon-system"}),
        (Debian("12"), "aarch64", {"libvirt-daemon-system"}),
        (Debian("12"), "armv7l", {"libvirt-daemon-system"}),
        (Debian("13"), "x86_64", QEMU_X86 | LIBVIRT_11),
        (Debian("13"), "aarch64", LIBVIRT_11),
        (
            *(Ubuntu("24.04"), "x86_64"),
            QEMU_X86 | {"debian-archive-keyring", "libvirt-daemon-system"},
        ),
        (Ubuntu("24.04"), "aarch64", {"debian-archive-keyring", "libvirt-daemon-system"}),
    ],
)
def test_what_differs_among_debians(system: Distribution, machine: str, extra: set[str]) -> None:
    assert {*system.wanted(machine, needs(FIRST, time=False))} - FOR_ALL == extra


@pytest.mark.parametrize("system", SUPPORTED, ids=title)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_a_node_does_without(system: Distribution, machine: str) -> None:
    all_of_it = system.wanted(machine, needs(FIRST, time=False))
    assert list(all_of_it) == sorted(set(all_of_it))
    node = system.wanted(machine, needs(JOINED, time=False))
    for_control = {name for need in CONTROL for name in system.packages(need, machine)}
    assert {*all_of_it} - {*node} == for_control
    timed = system.wanted(machine, needs(JOINED, time=True))
    assert {*timed} - {*node} == {"chrony"}


def test_every_need_has_one_who_takes_it() -> None:
    of_services = {need for each in ALL for need in each.needs}
    kinds = (of_services, OF_MACHINES, OF_CONTROLLERS, ON_DEMAND)
    assert set(Need) == set().union(*kinds)
    assert sum(map(len, kinds)) == len(Need), "of a service's, and of a machine's"


# Needs for which a distribution installs nothing, each with the reason.
NOTHING = {
    "debian": {
        Need.ARCHIVE,  # apt is there
        Need.ARCHIVE_KEYS,  # and has them
        Need.LIBVIRT_USER,  # from 13 on with the driver
        Need.LIBVIRT_STORAGE,  # until 12 in libvirt-daemon
        Need.LIBVIRT_LOG,
        Need.SCREENS,  # in QEMU's own package
        Need.OWN_EMULATOR,  # on ARM the same as the servers'
    },
    "fedora": {
        Need.LIBVIRT_PYTHON,  # compiled by the launcher
        Need.LIBVIRT_USER,  # with the driver
        Need.FIRMWARE_ARMV7,  # there is none
        Need.IMAGE_BUILDER,  # nor this
        Need.OWN_EMULATOR,
    },
}
NOTHING["ubuntu"] = NOTHING["debian"]


@pytest.mark.parametrize("system", SUPPORTED, ids=title)
def test_every_need_is_answered(system: Distribution) -> None:
    """A package, or a known reason why none is needed, or a sentence for people."""
    nothing = {need for need in Need if not system.packages(need, "aarch64")}
    assert nothing <= NOTHING[system.id]
    for need in {Need.FIRMWARE_ARMV7, Need.IMAGE_BUILDER} & nothing:
        assert system.lacks(need)
    assert not [need for need in Need if system.packages(need, "x86_64") and system.lacks(need)]


def test_the_names_of_fedora() -> None:
    """Read by hand in the specs that its file names; whoever changes one has read it again."""
    names = Fedora("44").wanted("x86_64", needs(FIRST, time=True))
    assert " ".join(names) == (
        "apt ca-certificates chrony debian-keyring dpkg e2fsprogs edk2-aarch64 ethtool fping"
        " genisoimage gnupg2 haproxy iproute iptables-nft ipxe-roms-qemu libseccomp libvirt-client"
        " libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-driver-storage-core"
        " libvirt-daemon-log mariadb mariadb-server memcached nftables nginx-core nginx-mod-stream"
        " openssh-clients openvswitch ovn-central ovn-host qemu-device-display-virtio-gpu"
        " qemu-device-display-virtio-gpu-pci qemu-img qemu-system-aarch64-core"
        " qemu-system-arm-core qemu-system-x86-core rabbitmq-server"
    )


@pytest.mark.parametrize(
    ("release", "system"),
    [
        (OsRelease("debian", "13", "", ""), "debian-13"),
        (OsRelease("ubuntu", "24.04", "", "", ("debian",)), "ubuntu-24.04"),
        (OsRelease("fedora", "45", "", ""), "fedora-45"),
        (OsRelease("raspbian", "12", "", "", ("debian",)), "debian-12"),
        (OsRelease("linuxmint", "22", "", "", ("ubuntu", "debian")), "ubuntu-22"),
        (OsRelease("rocky", "10.1", "", "", ("rhel", "centos", "fedora")), "fedora-10.1"),
        (OsRelease("arch", "", "", ""), "debian-"),
    ],
)
def test_which_one_a_system_is(release: OsRelease, system: str) -> None:
    assert title(registry.find(release)) == system
    assert registry.is_supported(release) is (release.id in {"debian", "ubuntu", "fedora"})


def test_what_people_read() -> None:
    assert registry.supported_names() == (
        "Debian 12, Debian 13, Ubuntu 24.04, Fedora 44 and Fedora 45"
    )
    assert registry.supported_names(tried=True) == "Debian 12, Debian 13 and Ubuntu 24.04"
    assert registry.for_boards() == "Debian 12"


@pytest.mark.parametrize(
    ("system", "kernel", "packages", "controller", "node"),
    [
        (Debian("12"), "x86_64", "amd64", True, True),
        (Debian("12"), "aarch64", "arm64", True, True),
        (Debian("12"), "aarch64", "armhf", False, False),
        (Debian("12"), "armv7l", "armhf", False, True),
        (Debian("13"), "armv7l", "armhf", False, False),
        (Ubuntu("24.04"), "armv7l", "armhf", False, False),
        (Fedora("44"), "aarch64", "arm64", True, True),
        (Fedora("44"), "riscv64", "riscv64", False, False),
        (Fedora("44"), "x86_64", "", False, False),
    ],
)
def test_which_machines_are_fit(
    system: Distribution, kernel: str, packages: str, controller: bool, node: bool
) -> None:
    architecture = Architecture(kernel, packages)
    assert system.fit(architecture, node=False) is controller
    assert system.fit(architecture, node=True) is node


@pytest.mark.parametrize(
    ("system", "path"),
    [
        (Debian, "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"),
        (Ubuntu, "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"),
        (Fedora, "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw"),
    ],
)
def test_where_firmware_lies(system: type[Distribution], path: str) -> None:
    assert system.paths.firmware_aarch64[0][0] == Path(path)
    assert bool(system.paths.firmware_armv7) is bool(system("x").packages(Need.FIRMWARE_ARMV7))


@pytest.mark.skipif(registry.here().id == "fedora", reason="for Debian's and Ubuntu's own Python")
def test_bindings_are_linked_once_and_again(tmp_path: Path) -> None:
    site = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    Debian("12").bind(tmp_path)
    first = {link: link.lstat().st_ino for link in site.iterdir()}
    Debian("12").bind(tmp_path)
    assert {link: link.lstat().st_ino for link in site.iterdir()} == first
    for link in first:
        assert link.is_symlink()
        assert link.resolve().parent == Path("/usr/lib/python3/dist-packages")


@pytest.mark.parametrize("system", registry.known().values(), ids=lambda each: each.id)
def test_the_emulators_that_people_are_told_of(system: type[Distribution]) -> None:
    names = {*system("x").packages(Need.EMULATORS)}
    assert {system.emulators["aarch64"], system.emulators["armv7l"]} <= names


def test_a_fourth_one_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Distribution, "known", dict(Distribution.known))

    class Alma(Fedora):
        id = "almalinux"
        name = "AlmaLinux"
        versions = ("10.1",)

    monkeypatch.setattr(registry, "known", lambda: Distribution.known)
    found = registry.find(OsRelease("almalinux", "10.1", "", "", ("rhel", "centos", "fedora")))
    assert isinstance(found, Alma)
    assert found.supported
