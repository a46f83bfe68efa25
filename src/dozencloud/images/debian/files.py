"""The files that an image has besides Debian's packages: what makes a root a cloud image."""

from __future__ import annotations

import uuid

from dozencloud.images.debian.recipe import Purpose, Recipe

CONSOLE = "console=ttyAMA0"
"""The serial port of QEMU's `virt` machine; a getty comes with it (systemd-getty-generator)."""

NO_DOCUMENTATION = """\
# The image was made without documentation and translations, and upgrades bring none.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/man/*
"""

CLOUD = """\
datasource_list: [ConfigDrive, OpenStack, None]
apt:
  preserve_sources_list: true
system_info:
  network:
    renderers: [networkd]
"""

WAIT_ONLINE = """\
# One network that works is enough: a second port without DHCP must not hold up the boot.
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=30
"""

INITRAMFS = """\
# Small, because the emulated machines unpack it slowly; the list is in ../modules.
MODULES=list
COMPRESS=zstd
RESUME=none
FSTYPE=ext4
"""

MODULES = (
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "sd_mod",
    "sr_mod",
    "nvme",
    "usb_storage",
    "ext4",
)

GRUB_DEFAULTS = f"""\
GRUB_CMDLINE_LINUX="{CONSOLE}"
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_TERMINAL=console
GRUB_TIMEOUT=0
GRUB_DISABLE_OS_PROBER=true
"""


def before(recipe: Recipe) -> dict[str, str]:
    """Files that packages look at while they are configured: path in the root, text."""
    files = {
        "etc/cloud/cloud.cfg.d/90_dozen.cfg": CLOUD,
        # Without SMBIOS (QEMU loads the kernel itself) nothing tells that this is OpenStack.
        "etc/cloud/ds-identify.cfg": "policy: enabled\n",
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf": WAIT_ONLINE,
    }
    if recipe.boot is not None:
        files["etc/initramfs-tools/conf.d/cloud"] = INITRAMFS
        files["etc/initramfs-tools/modules"] = "".join(f"{name}\n" for name in MODULES)
    if recipe.purpose is Purpose.VM:
        files["etc/default/grub.d/cloud.cfg"] = GRUB_DEFAULTS
    return files


def after(recipe: Recipe) -> dict[str, str]:
    """Files that replace what the packages made."""
    files = {
        "etc/apt/sources.list.d/debian.sources": apt_sources(recipe.suite),
        "etc/fstab": fstab(recipe),
        "etc/hostname": "debian\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost\n",
    }
    if recipe.purpose is Purpose.VM:
        root = recipe.identity("root")
        files["boot/efi/.keep"] = ""
        files["boot/grub/early.cfg"] = early_grub(root)
        files["boot/grub/grub.cfg"] = first_grub(root)
    return files


def apt_sources(suite: str) -> str:
    """Where the guest gets its upgrades: Debian's own addresses, not the mirror of the build."""
    common = "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    return (
        "Types: deb\nURIs: http://deb.debian.org/debian\n"
        f"Suites: {suite} {suite}-updates\n{common}\n"
        "Types: deb\nURIs: http://deb.debian.org/debian-security\n"
        f"Suites: {suite}-security\n{common}"
    )


def fstab(recipe: Recipe) -> str:
    """The text of /etc/fstab."""
    if recipe.boot is None:
        return ""
    root = f"UUID={recipe.identity('root')} / ext4 rw,discard,errors=remount-ro 0 1\n"
    if recipe.purpose is not Purpose.VM:
        return root
    serial = f"{fat_serial(recipe.identity('esp')):08X}"
    esp = f"UUID={serial[:4]}-{serial[4:]}"
    return f"{root}{esp} /boot/efi vfat umask=0077,nofail 0 1\n"


def fat_serial(identity: uuid.UUID) -> int:
    """A volume serial number of 32 bits, all that FAT has for a UUID."""
    return identity.int & 0xFFFF_FFFF


def command_line(recipe: Recipe) -> str:
    """What the kernel is told when QEMU loads it."""
    return f"root=UUID={recipe.identity('root')} ro {CONSOLE}"


def early_grub(root: uuid.UUID) -> str:
    """What the loader does first: it reads grub.cfg where the guest's update-grub writes it."""
    return (
        f"search --no-floppy --fs-uuid --set=root {root}\n"
        "set prefix=($root)/boot/grub\n"
        "configfile $prefix/grub.cfg\n"
    )


def first_grub(root: uuid.UUID) -> str:
    """grub.cfg until the guest's first kernel upgrade runs update-grub.

    It names the links that Debian's kernel packages keep at the newest kernel.
    """
    return (
        "set timeout=0\n"
        "menuentry 'Debian GNU/Linux' {\n"
        f"\tsearch --no-floppy --fs-uuid --set=root {root}\n"
        f"\tlinux /vmlinuz root=UUID={root} ro {CONSOLE}\n"
        "\tinitrd /initrd.img\n"
        "}\n"
    )
