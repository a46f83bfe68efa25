"""Which images can be built from Debian's packages, and what goes into each."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from dozencloud.errors import Exit, Problem


class Suite(StrEnum):
    """A Debian release, by its code name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"


class Architecture(StrEnum):
    """Debian's name of an ARM architecture."""

    ARM64 = "arm64"
    ARMHF = "armhf"
    ARMEL = "armel"


class Purpose(StrEnum):
    """How the image will be started."""

    VM = "vm"
    """UEFI: one disk with loader, kernel and root."""
    KERNEL = "kernel"
    """QEMU loads kernel and initrd; the disk is the root file system alone."""
    CONTAINER = "container"
    """An archive of the root file system, without a kernel."""


@dataclass(frozen=True)
class Boot:
    """How an architecture boots on QEMU's `virt` machine."""

    kernel: dict[Purpose, str]
    """Debian's package of the kernel."""
    grub: str
    """GRUB's name of the platform."""
    grub_package: str
    loader: str
    """File name at UEFI's removable path, EFI/BOOT."""
    root_type: str
    """GPT type of a root partition (Discoverable Partitions Specification)."""


BOOTS = {
    Architecture.ARM64: Boot(
        kernel={
            # A third of the size of the usual one.
            Purpose.VM: "linux-image-cloud-arm64",
            # Without ACPI the power button is a GPIO key, which the cloud flavour has no driver
            # for: the server could not be asked to shut down.
            Purpose.KERNEL: "linux-image-arm64",
        },
        grub="arm64-efi",
        grub_package="grub-efi-arm64",
        loader="BOOTAA64.EFI",
        root_type="B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
    ),
    # QEMU puts PCI's configuration space above 4 GiB; a kernel without LPAE sees no PCI device.
    Architecture.ARMHF: Boot(
        kernel={
            Purpose.VM: "linux-image-armmp-lpae",
            Purpose.KERNEL: "linux-image-armmp-lpae",
        },
        grub="arm-efi",
        grub_package="grub-efi-arm",
        loader="BOOTARM.EFI",
        root_type="69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
    ),
}

PACKAGES = (
    "apt",
    "ca-certificates",
    "cloud-init",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    # Debian 13 no longer has it on every system; without it the console's getty starts for ever.
    "login",
    "netbase",
    "openssh-server",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "tzdata",
    "vim-tiny",
)
BOOTABLE = (
    "cloud-guest-utils",
    "e2fsprogs",
    "initramfs-tools",
    "systemd-timesyncd",
    "udev",
    "zstd",
)
"""What an image with a kernel needs besides."""

Word = TypeVar("Word", bound=StrEnum)

NAMES = {"debian-12": Suite.BOOKWORM, "debian-13": Suite.TRIXIE}


@dataclass(frozen=True)
class Recipe:
    """What to build. Raises Problem for what Debian's packages do not give."""

    suite: Suite
    architecture: Architecture
    purpose: Purpose

    def __post_init__(self) -> None:
        if self.purpose is not Purpose.CONTAINER and self.architecture not in BOOTS:
            raise Problem(
                f"Debian has no {self.architecture} kernel for a virtual machine: its"
                f" {self.architecture} kernels are for Raspberry Pi and Marvell boards, and none"
                " of them runs on QEMU's machine `virt`.",
                f"Build it --for container, or take --arch armhf for a {self.purpose} image.",
                code=Exit.USAGE,
            )

    @classmethod
    def parse(cls, suite: str, architecture: str, purpose: str) -> Recipe:
        """From words as a person types them: debian-13 or trixie, arm64, vm."""
        return cls(
            _word(Suite, NAMES.get(suite, suite), "distribution", ", ".join(NAMES)),
            _word(Architecture, architecture, "architecture", ", ".join(Architecture)),
            _word(Purpose, purpose, "purpose", ", ".join(Purpose)),
        )

    @property
    def name(self) -> str:
        return f"debian-{self.suite}-{self.architecture}-{self.purpose}"

    @property
    def boot(self) -> Boot | None:
        """None for a container."""
        return None if self.purpose is Purpose.CONTAINER else BOOTS[self.architecture]

    @property
    def packages(self) -> tuple[str, ...]:
        """What to install; dependencies and essential packages come along."""
        if self.boot is None:
            return PACKAGES
        loader = (self.boot.grub_package,) if self.purpose is Purpose.VM else ()
        return tuple(sorted((*PACKAGES, *BOOTABLE, self.boot.kernel[self.purpose], *loader)))

    def identity(self, of: str) -> uuid.UUID:
        """A fixed UUID, so that the same recipe gives the same bytes."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"https://dozencloud.org/image/{self.name}/{of}")


def _word(kind: type[Word], value: str, what: str, choice: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        raise Problem(
            f"The {what} {value!r} cannot be built.", f"Choose one of: {choice}.", code=Exit.USAGE
        ) from None
