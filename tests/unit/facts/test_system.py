"""Which system: os-release as the distributions ship it, architecture, clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dozencloud.facts.system import Architecture, Family, parse_os_release, plausible
from dozencloud.host.distributions import registry

DEBIAN_12 = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
SUPPORT_URL="https://www.debian.org/support"
BUG_REPORT_URL="https://bugs.debian.org/"
"""
DEBIAN_13 = """\
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION="13 (trixie)"
VERSION_CODENAME=trixie
DEBIAN_VERSION_FULL=13.2
ID=debian
HOME_URL="https://www.debian.org/"
"""
UBUNTU_24 = """\
PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""
UBUNTU_22 = """\
PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.4 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
"""
RASPBIAN_12 = """\
PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"
NAME="Raspbian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=raspbian
ID_LIKE=debian
"""
FEDORA_44 = """\
NAME="Fedora Linux"
VERSION="44 (Server Edition)"
RELEASE_TYPE=stable
ID=fedora
VERSION_ID=44
VERSION_CODENAME=""
PRETTY_NAME="Fedora Linux 44 (Server Edition)"
"""
FEDORA_41 = """\
NAME="Fedora Linux"
VERSION="41 (Forty One)"
RELEASE_TYPE=stable
ID=fedora
VERSION_ID=41
VERSION_CODENAME=""
PLATFORM_ID="platform:f41"
PRETTY_NAME="Fedora Linux 41 (Forty One)"
ANSI_COLOR="0;38;2;60;110;180"
"""
DEBIAN_SID = """\
PRETTY_NAME="Debian GNU/Linux forky/sid"
NAME="Debian GNU/Linux"
VERSION_CODENAME=forky
ID=debian
"""


@pytest.mark.parametrize(
    ("text", "system", "supported"),
    [
        (DEBIAN_12, ("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"), True),
        (DEBIAN_13, ("debian", "13", "trixie", "Debian GNU/Linux 13 (trixie)"), True),
        (UBUNTU_24, ("ubuntu", "24.04", "noble", "Ubuntu 24.04.3 LTS"), True),
        (UBUNTU_22, ("ubuntu", "22.04", "jammy", "Ubuntu 22.04.4 LTS"), False),
        (
            RASPBIAN_12,
            ("raspbian", "12", "bookworm", "Raspbian GNU/Linux 12 (bookworm)"),
            False,
        ),
        (FEDORA_44, ("fedora", "44", "", "Fedora Linux 44 (Server Edition)"), True),
        (FEDORA_41, ("fedora", "41", "", "Fedora Linux 41 (Forty One)"), False),
        (DEBIAN_SID, ("debian", "", "forky", "Debian GNU/Linux forky/sid"), False),
        ("", ("linux", "", "", "an unknown Linux"), False),
        ("# ID=debian\nID='alpine'\nnonsense\n", ("alpine", "", "", "an unknown Linux"), False),
        ('ID=odd\nPRETTY_NAME="never closed\n', ("odd", "", "", '"never closed'), False),
    ],
)
def test_os_release(text: str, system: tuple[str, str, str, str], supported: bool) -> None:
    found = parse_os_release(text)
    assert (found.id, found.version, found.codename, found.pretty) == system
    assert registry.is_supported(found) is supported


@pytest.mark.parametrize(
    ("text", "family"),
    [
        (DEBIAN_12, Family.DEB),
        (UBUNTU_24, Family.DEB),
        (RASPBIAN_12, Family.DEB),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', Family.DEB),
        (FEDORA_41, Family.RPM),
        ('ID=rocky\nID_LIKE="rhel centos fedora"\n', Family.RPM),
        ("ID=arch\n", Family.OTHER),
        ("", Family.OTHER),
    ],
)
def test_family(text: str, family: Family) -> None:
    assert parse_os_release(text).family is family


@pytest.mark.parametrize(
    ("kernel", "packages", "arm", "small"),
    [
        ("x86_64", "amd64", False, False),
        ("aarch64", "arm64", True, False),
        ("aarch64", "armhf", True, False),  # 32-bit Raspberry Pi OS on its 64-bit kernel
        ("armv7l", "armhf", True, True),
        ("riscv64", "riscv64", False, False),
    ],
)
def test_architecture(kernel: str, packages: str, arm: bool, small: bool) -> None:
    found = Architecture(kernel, packages)
    assert (found.arm, found.small) == (arm, small)


@pytest.mark.parametrize(
    ("year", "good"), [(1970, False), (2025, False), (2026, True), (2040, True), (2099, False)]
)
def test_clock(year: int, good: bool) -> None:
    assert plausible(datetime(year, 6, 1, tzinfo=UTC)) is good
