"""The libvirt driver for hosts that run ARM servers."""

from __future__ import annotations

from typing import Any

from nova.virt.libvirt import driver as libvirt_driver

# Since this version libvirt accepts <loader secure='no'/> beside firmware='efi'.
# https://libvirt.org/news.html, 9.2.0; refused since 8.6.0.
LOADER_SECURE_ACCEPTED = (9, 2, 0)


def firmware_elements(guest: Any, *, has_kernel: bool, accepts_loader_secure: bool) -> None:
    """Mend what Nova 34 writes about the firmware of a guest.

    has_kernel: QEMU starts the kernel itself; firmware in front of it only costs 5 s.
    accepts_loader_secure: see LOADER_SECURE_ACCEPTED.
    """
    if has_kernel:
        guest.os_firmware = None
        guest.os_firmware_secure = None
        guest.os_loader_secure = None
    elif guest.os_firmware == "efi" and not accepts_loader_secure and not guest.os_loader_secure:
        guest.os_loader_secure = None


class ArmLibvirtDriver(libvirt_driver.LibvirtDriver):  # type: ignore[misc]  # nova is untyped
    """Upstream's driver; what it overrides is listed in dozencloud.compute.upstream."""

    def _configure_guest_by_virt_type(
        self, guest: Any, instance: Any, image_meta: Any, flavor: Any, old_guest: Any = None
    ) -> None:
        super()._configure_guest_by_virt_type(guest, instance, image_meta, flavor, old_guest)
        firmware_elements(
            guest,
            has_kernel=bool(instance.kernel_id),
            accepts_loader_secure=self._host.has_min_version(LOADER_SECURE_ACCEPTED),
        )
