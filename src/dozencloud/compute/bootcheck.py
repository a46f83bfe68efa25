"""Whether what a server starts from is for its architecture, asked before each start.

The import of an image asked the same; but properties change, and images come by other ways. Only
what is certain is refused: a disk that cannot be read, or a system installed by hand, starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxml import etree
from nova.objects.fields import Architecture
from nova.virt.libvirt.utils import get_disk_backing_file

from dozencloud.errors import Problem
from dozencloud.images.inspection import loaders
from dozencloud.images.inspection.confine import inspect_file
from dozencloud.images.inspection.model import Boot, Inspection
from dozencloud.images.inspection.tree import BadImage
from dozencloud.images.inspection.verdict import name

PROPERTY = "dozen_boot_check"
"""The image's property; `skip` starts its servers unasked."""
SECONDS = 10
"""After which a disk is called unreadable."""
SILENT = "It would run without a word on its console."

ARM = (Architecture.AARCH64, Architecture.ARMV7)


@dataclass(frozen=True)
class Start:
    """What a domain starts from. disk: the first one's file; None if it is no file."""

    arch: str
    firmware: bool
    kernel: Path | None
    disk: Path | None


def image_properties(system_metadata: Mapping[str, str]) -> dict[str, str]:
    """All properties of a server's image; Nova's own object has those only that Nova knows."""
    return {
        key.removeprefix("image_"): value
        for key, value in system_metadata.items()
        if key.startswith("image_")
    }


def parse(xml: str) -> Start:
    """Read it from a domain's description."""
    root = etree.fromstring(xml.encode())
    disks = [each for each in root.iterfind("devices/disk") if each.get("device") == "disk"]
    source = disks[0].find("source") if disks else None
    file = None if source is None else source.get("file")
    kernel = root.findtext("os/kernel")
    return Start(
        arch=root.find("os/type").get("arch", ""),
        firmware=root.find("os").get("firmware") == "efi" or root.find("os/loader") is not None,
        kernel=Path(kernel) if kernel else None,
        disk=Path(file) if file else None,
    )


def against_kernel(arch: str, found: Inspection) -> str:
    """Why the kernel does not start on that architecture; empty if it does, or nobody knows."""
    if found.arch and found.arch != arch:
        return f"The server is {arch}, but its kernel is for {name(found.arch)}. {SILENT}"
    return ""


def against_disk(arch: str, found: Inspection) -> str:
    """Why firmware of that architecture starts nothing from the disk; else empty."""
    if any(each.arch == arch for each in found.loaders):
        return ""
    removable = [each for each in found.loaders if loaders.removable(each)]
    if removable:
        only = " and ".join(sorted({name(each.arch) for each in removable}))
        return f"The server is {arch}, but the EFI loader on its disk is for {only}."
    if found.boot is not Boot.NONE:
        return ""
    foreign = found.arch is not None and found.arch != arch
    return found.reason if foreign or (found.mbr_boot_code and not found.esp) else ""


def check(xml: str, properties: Mapping[str, str]) -> None:
    """Problem where the domain cannot start. properties: of the server's image."""
    if properties.get(PROPERTY) == "skip":
        return
    start = parse(xml)
    if start.kernel is not None:
        found = _inspected(start.kernel, _kernel_key)
        reason = against_kernel(start.arch, found) if found else ""
    elif start.firmware:
        found = _inspected(_origin(start.disk), _disk_key)
        reason = against_disk(start.arch, found) if found else ""
    elif start.arch in ARM:
        reason = "The server has neither firmware nor a kernel beside its disk: ARM has no BIOS."
    else:
        reason = ""
    if reason:
        raise Problem(reason, f"Mend its image; to start it all the same: {PROPERTY}=skip there.")


def _origin(disk: Path | None) -> Path | None:
    """The image under a server's disk: inspection follows no other file, and many share it."""
    if disk is None or not disk.is_file():
        return None
    backing = get_disk_backing_file(str(disk), basename=False)
    return Path(backing) if backing else disk


def _disk_key(file: Path) -> tuple[object, ...]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns


def _kernel_key(file: Path) -> tuple[object, ...]:
    """Every server has a copy of its own; the header tells the architecture."""
    with file.open("rb") as stream:
        return file.stat().st_size, stream.read(4096)


_known: dict[tuple[object, ...], Inspection] = {}
"""An inspection takes 0.3 s and more; one image has many servers."""
_KNOWN = 256


def _inspected(
    file: Path | None, key_of: Callable[[Path], tuple[object, ...]]
) -> Inspection | None:
    """What the file is; None where there is none, or it cannot be read."""
    if file is None:
        return None
    try:
        key = key_of(file)
        if key not in _known:
            if len(_known) >= _KNOWN:
                _known.clear()
            _known[key] = inspect_file(file, seconds=SECONDS)
        return _known[key]
    except (OSError, BadImage):
        return None
