"""Cloud images from Debian's packages: `build` makes one, or returns it from the cache.

The loader of a `vm` image is GRUB, because it alone of GRUB, systemd-boot and a unified kernel
image reads the kernel where Debian's packages put it, in /boot on the root file system: a kernel
that the guest installs with apt is found at the next boot, and the EFI system partition needs not
change. The other two want each kernel copied to that partition, by hooks that Debian does not
install by itself, and the 32-bit stub of systemd has no room for a kernel's sections.
"""

from __future__ import annotations

from dozencloud.images.debian.builder import KEYRING, MIRROR, SECURITY, Built, build
from dozencloud.images.debian.recipe import Architecture, Purpose, Recipe, Suite

__all__ = [
    "KEYRING",
    "MIRROR",
    "SECURITY",
    "Architecture",
    "Built",
    "Purpose",
    "Recipe",
    "Suite",
    "build",
]
