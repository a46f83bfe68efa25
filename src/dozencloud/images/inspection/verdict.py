"""Whether and how an image boots on ARM, and if not, why: decided from what was found in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dozencloud.images.inspection import loaders
from dozencloud.images.inspection.kernels import Default
from dozencloud.images.inspection.model import (
    Arch,
    Boot,
    Initrd,
    Kernel,
    KernelKind,
    Loader,
    System,
)

ARM = (Arch.AARCH64, Arch.ARMV7L, Arch.ARMV6)
MACHINES = (Arch.AARCH64, Arch.ARMV7L)
"""What QEMU's machine `virt` has processors for; its 32-bit ones are ARMv7 with LPAE."""
NAMES = {Arch.X86_64: "x86-64", Arch.I686: "32-bit x86"}
CONSOLE = "ttyAMA0"
"""The serial port of `virt`. Without any console= Linux finds it in the device tree or SPCR."""

DROPPED = ("console=", "root=", "BOOT_IMAGE=", "initrd=", "vt.handoff=", "earlycon=uart")
DROPPED_WORDS = ("quiet", "splash")


@dataclass(frozen=True)
class Findings:
    """What the verdict is made of.

    trouble: why a file system, or a place in one, could not be read. installer: it is a CD-ROM's
    file system. empty: no byte of its beginning is set. readable: some file system was read.
    unread: kinds of file systems that no reader is here for; "" for one that is not known.
    """

    loaders: tuple[Loader, ...] = ()
    system: System | None = None
    default: Default = field(default_factory=Default)
    esp: int = 0
    mbr_boot_code: bool = False
    installer: bool = False
    empty: bool = False
    readable: bool = False
    unread: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class BootVerdict:
    """How it boots; reason: in a sentence, if it does not."""

    boot: Boot
    arch: Arch | None
    reason: str = ""
    warnings: tuple[str, ...] = ()


def name(arch: Arch | None) -> str:
    """An architecture as people call it."""
    return "an unknown architecture" if arch is None else NAMES.get(arch, arch)


def of_disk(found: Findings) -> BootVerdict:
    """How a disk boots."""
    if found.empty:
        return _none(found, "The disk is empty: it has no partition table and no file system.")
    if found.installer:
        return _none(
            found,
            "This is an installation medium: it installs a system, it is none. "
            "Take the distribution's cloud image.",
        )
    startable = _startable(found)
    if startable is not None:
        return _by_uefi(found, startable)
    return _by_kernel(found)


def _startable(found: Findings) -> Arch | None:
    """The architecture for which firmware finds a loader; of several, the system's own."""
    arches = [
        loader.arch
        for loader in found.loaders
        if loader.arch in MACHINES and loaders.started(loader) is loader.arch
    ]
    kernel = found.default.found
    if kernel is not None and kernel.kernel.arch in arches:
        return kernel.kernel.arch
    if found.system is not None and found.system.arch in arches:
        return found.system.arch
    return min(arches, default=None)


def _by_uefi(found: Findings, arch: Arch) -> BootVerdict:
    kernel = found.default.found.kernel if found.default.found else None
    user = found.system.arch if found.system else None
    reason = ""
    if kernel is not None and kernel.arch not in (arch, None):
        reason = (
            f"The EFI loader is for {name(arch)}, but the kernel in the image is for "
            f"{name(kernel.arch)}: the loader cannot start it."
        )
    elif kernel is None and user is not None and not found.trouble and not _alike(user, arch):
        reason = (
            f"The EFI loader is for {name(arch)}, but the system in it is {name(user)}: "
            "no kernel for both is in the image."
        )
    reason = reason or _against_user_space(kernel, user) or _against_kernel(found.default)
    if reason:
        return _none(found, reason)
    return BootVerdict(Boot.UEFI, arch, warnings=tuple(_warnings(found, Boot.UEFI)))


def _by_kernel(found: Findings) -> BootVerdict:
    """Without a usable EFI loader: the kernel inside, if it is handed to QEMU."""
    kernel = found.default.found.kernel if found.default.found else None
    reason = _foreign(found)
    if not reason and (kernel is None or found.system is None):
        reason = _nothing_to_start(found, kernel)
    if not reason and found.system is not None:
        reason = _against_user_space(kernel, found.system.arch) or (
            _against_kernel(found.default) or _without_initrd(found, kernel)
        )
    if reason:
        return _none(found, reason)
    assert kernel is not None  # noqa: S101  (_nothing_to_start said so)
    return BootVerdict(Boot.KERNEL, kernel.arch, warnings=tuple(_warnings(found, Boot.KERNEL)))


def _foreign(found: Findings) -> str:
    """Why nothing in it is for ARM; empty if something is, or nothing is known."""
    kernel = found.default.found.kernel if found.default.found else None
    arches = {loader.arch for loader in found.loaders}
    user = found.system.arch if found.system else None
    inside = {user, kernel.arch if kernel else None} - {None}
    if arches & set(ARM) or inside & set(ARM):
        return ""
    known = sorted(arch for arch in arches if arch is not None)
    if known:
        names = " and ".join(name(arch) for arch in known)
        return f"{names} loader only: this image cannot start on ARM."
    if inside:
        names = " and ".join(sorted(name(arch) for arch in inside))
        return f"This is a system for {names}: this image cannot start on ARM."
    return ""


def _nothing_to_start(found: Findings, kernel: Kernel | None) -> str:
    arm = [loader for loader in found.loaders if loader.arch in MACHINES]
    misnamed = [
        loader
        for loader in found.loaders
        if loaders.removable(loader) in MACHINES and loader.arch is not loaders.removable(loader)
    ]
    if misnamed:
        wrong = misnamed[0]
        return (
            f"The EFI loader {wrong.path} is for {name(wrong.arch)}, not for "
            f"{name(loaders.removable(wrong))} as its name says: firmware cannot start it."
        )
    instead = (
        "no kernel was found to start instead"
        if kernel is None
        else "there is no root file system that its kernel could be started with instead"
    )
    if arm:
        return (
            f"The EFI loader {arm[0].path} is not where firmware looks on a new server's disk "
            f"(EFI/BOOT), and {instead}."
        )
    if found.trouble:
        return f"No EFI loader for ARM was found, and not all could be read: {found.trouble}"
    if found.mbr_boot_code and not found.esp:
        return "MBR boot code and no EFI system partition: ARM has no BIOS."
    if not found.readable:
        kinds = " and ".join(filter(None, found.unread))
        if kinds:
            return f"All that is in it is {kinds}, which is not read here: nothing can be started."
        return "No file system in it is known: nothing in this image can be started."
    if found.esp and not found.loaders:
        return f"The EFI system partition holds no loader, and {instead}."
    if kernel is None:
        return "No EFI loader and no kernel: nothing in this image can be started."
    return "No EFI loader, and a kernel without a root file system: there is no system to start."


def _against_user_space(kernel: Kernel | None, user: Arch | None) -> str:
    """Why a kernel cannot run a system's programs."""
    if kernel is None or kernel.arch is None or user is None or runs(user, kernel.arch):
        return ""
    return (
        f"The kernel is for {name(kernel.arch)}, but the system's programs are for {name(user)}: "
        "it cannot run them."
    )


def runs(user: Arch, kernel: Arch) -> bool:
    """Whether a kernel runs programs of an architecture; 64-bit ARM runs both."""
    runs = {Arch.AARCH64: ARM, Arch.ARMV7L: (Arch.ARMV7L, Arch.ARMV6), Arch.X86_64: (Arch.I686,)}
    return user is kernel or user in runs.get(kernel, ())


def _alike(user: Arch, arch: Arch) -> bool:
    """Whether programs are of the width of a loader."""
    return user is arch or (user is Arch.ARMV6 and arch is Arch.ARMV7L)


def _against_kernel(default: Default) -> str:
    """Why a server cannot run from this kernel."""
    if default.found is None:
        return ""
    kernel = default.found.kernel
    if default.found.fault:
        return default.found.fault
    reason = against_cpu(kernel)
    if reason:
        return reason
    title = f"The kernel {kernel.version}" if kernel.version else "The kernel"
    if kernel.virtio is False:
        return f"{title} has no virtio: it sees neither disk nor network of a server."
    if kernel.modules and default.initrds_whole:
        missing = " and ".join(kernel.modules)
        if not default.initrds:
            return f"{title} has {missing} as a module, and no initial RAM disk brings it."
        if any(initrd.virtio is False for initrd in default.initrds):
            lack = "disk lacks" if len(default.initrds) == 1 else "disks lack"
            return f"{title} has {missing} as a module, and its initial RAM {lack} it."
    return ""


def _without_initrd(found: Findings, kernel: Kernel | None) -> str:
    """Why a kernel is not handed to QEMU alone, though what brings its modules may be unread."""
    if kernel is None or not kernel.modules or found.default.initrds or not found.trouble:
        return ""
    missing = " and ".join(kernel.modules)
    return (
        f"The kernel has {missing} as a module, and no initial RAM disk that brings it could be "
        f"read: {found.trouble}"
    )


def against_cpu(kernel: Kernel) -> str:
    """Why no processor of a server's machine runs this kernel."""
    if kernel.arch is Arch.ARMV6:
        return "The kernel is for ARMv6: the machine of a server has no such processor."
    if kernel.arch is Arch.ARMV7L and kernel.lpae is False:
        return (
            "The ARMv7 kernel has no LPAE: it sees no PCI device, so neither disk nor network. "
            "Install the flavour with LPAE (Debian: linux-image-armmp-lpae)."
        )
    return ""


def of_kernel(kernel: Kernel, fault: str) -> BootVerdict:
    """How a bare kernel boots."""
    reason = fault
    if kernel.kind is KernelKind.ELF:
        reason = "This is a program (ELF), not a kernel that QEMU or firmware starts."
    elif kernel.arch not in ARM:
        reason = f"This is a kernel for {name(kernel.arch)}: it cannot start on ARM."
    reason = reason or against_cpu(kernel)
    if not reason and kernel.virtio is False:
        reason = "The kernel has no virtio: it sees neither disk nor network of a server."
    if reason:
        return BootVerdict(Boot.NONE, kernel.arch, reason)
    warnings = ("This is a kernel alone: a server needs an initial RAM disk or a root disk too.",)
    return BootVerdict(Boot.KERNEL, kernel.arch, warnings=warnings)


def of_program(arch: Arch | None) -> BootVerdict:
    """An EFI program alone is started from an EFI system partition only."""
    return BootVerdict(
        Boot.NONE, arch, f"This is an EFI program for {name(arch)}, neither a kernel nor a disk."
    )


def of_initrd(initrd: Initrd) -> BootVerdict:
    """An initial RAM disk alone never boots."""
    return BootVerdict(
        Boot.NONE,
        initrd.arch,
        "This is an initial RAM disk alone: it starts only together with its kernel.",
    )


def of_tree(system: System, *, claimed: Arch | None) -> BootVerdict:
    """How an archive or squashfs boots.

    claimed: the architecture that a container's configuration names.
    """
    arch = system.arch or claimed
    reason = ""
    if not system.id and system.arch is None:
        reason = "This is no root file system: it has neither an os-release nor a program."
    elif arch is None:
        reason = "The architecture of this root file system cannot be told: no program is in it."
    elif claimed and system.arch and not runs(system.arch, claimed):
        reason = (
            f"The container's configuration says {name(claimed)}, but its programs are for "
            f"{name(system.arch)}."
        )
    elif arch not in ARM:
        reason = f"This is a root file system for {name(arch)}: it cannot run on ARM."
    return BootVerdict(Boot.NONE if reason else Boot.ROOTFS, arch, reason)


def _none(found: Findings, reason: str) -> BootVerdict:
    kernel = found.default.found.kernel if found.default.found else None
    user = found.system.arch if found.system else None
    known = [loader.arch for loader in found.loaders if loader.arch is not None]
    arch = (kernel.arch if kernel else None) or user or min(known, default=None)
    return BootVerdict(Boot.NONE, arch, reason)


def _warnings(found: Findings, boot: Boot) -> Iterator[str]:
    kernel = found.default.found.kernel if found.default.found else None
    system = found.system
    if boot is Boot.KERNEL and found.loaders:
        path = found.loaders[0].path
        yield (
            f"Firmware does not find the EFI loader {path} on a new server's disk: "
            "the kernel inside is started directly."
        )
    starting = [loader for loader in found.loaders if loaders.started(loader) is loader.arch]
    if boot is Boot.UEFI and not any(map(loaders.removable, starting)):
        yield (
            f"Firmware's shell starts {starting[0].path}, as startup.nsh says: "
            "it waits some seconds before it does."
        )
    if found.trouble:
        yield f"Not all in it could be read: {found.trouble}"
    if kernel is None:
        yield "No kernel was found in it: whether it has virtio is not known."
    elif any(one.virtio for one in found.default.initrds):
        pass
    elif kernel.virtio is None:
        yield "Whether its kernel has virtio is not known."
    elif kernel.modules and not found.default.initrds_whole:
        yield (
            "Its initial RAM disks could not be told for sure or read whole: "
            "whether they have virtio is not known."
        )
    if system is None:
        yield "No operating system was found in it that could be read."
        return
    if kernel and kernel.arch is Arch.AARCH64 and system.arch in (Arch.ARMV7L, Arch.ARMV6):
        yield "A 64-bit kernel with 32-bit programs: it needs a processor that runs both."
    if boot is Boot.UEFI and system.consoles and not _serial(system.consoles):
        last = system.consoles[-1]
        yield f"Its console is {last}, not {CONSOLE}: the server's console log will stay empty."
    # Of a system inside a unified kernel image only the name is known.
    if system.init and not system.cloud_init:
        yield "No cloud-init in it: it takes neither keys nor a name from the cloud."


def _serial(consoles: tuple[str, ...]) -> bool:
    return any(console.split(",")[0] in (CONSOLE, "hvc0") for console in consoles)


def command_line(default: Default, root: str, subvolume: str = "") -> str:
    """The arguments with which the kernel inside is started. subvolume: of btrfs, with the root."""
    kept = [
        argument
        for argument in default.arguments
        if argument not in DROPPED_WORDS and not argument.startswith(DROPPED)
    ]
    added = [f"root={root}"] if root else []
    if not {"ro", "rw"} & set(kept):
        added.append("rw")
    if subvolume and not any(argument.startswith("rootflags=") for argument in kept):
        added.append(f"rootflags=subvol={subvolume}")
    return " ".join([*added, *kept, f"console={CONSOLE}"])
