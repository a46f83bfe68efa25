"""What a domain starts from, by its description, and what those bytes are.

Asked before each start, and of a server that hangs. An inspection takes 0.3 s and more, and one
image has many servers: answers are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lxml import etree
from nova.virt.libvirt.utils import get_disk_backing_file

from dozencloud.images.inspection.confine import inspect_file
from dozencloud.images.inspection.model import Inspection
from dozencloud.images.inspection.tree import BadImage

SECONDS = 10
"""After which a disk is called unreadable."""


@dataclass(frozen=True)
class BootFiles:
    """What a domain starts from. disk: the first one's file; None if it is no file."""

    arch: str
    firmware: bool
    kernel: Path | None
    disk: Path | None


def parse(xml: str) -> BootFiles:
    """Read it from a domain's description."""
    root = etree.fromstring(xml.encode())
    disks = [each for each in root.iterfind("devices/disk") if each.get("device") == "disk"]
    source = disks[0].find("source") if disks else None
    file = None if source is None else source.get("file")
    kernel = root.findtext("os/kernel")
    return BootFiles(
        arch=root.find("os/type").get("arch", ""),
        firmware=root.find("os").get("firmware") == "efi" or root.find("os/loader") is not None,
        kernel=Path(kernel) if kernel else None,
        disk=Path(file) if file else None,
    )


def inspected(start: BootFiles) -> Inspection | None:
    """What the kernel, or else the disk, is; None where there is none, or it cannot be read."""
    return of_kernel(start.kernel) if start.kernel is not None else of_disk(start.disk)


def of_kernel(kernel: Path) -> Inspection | None:
    """What a kernel is; None if it cannot be read."""
    return _inspected(kernel, _kernel_key)


def of_disk(disk: Path | None) -> Inspection | None:
    """What a server's disk is, by the image under it: inspection follows no other file."""
    if disk is None or not disk.is_file():
        return None
    backing = get_disk_backing_file(str(disk), basename=False)
    return _inspected(Path(backing), _image_key) if backing else _inspected(disk, _disk_key)


def sector(disk: Path) -> int:
    """Bytes of the sectors that a server's disk was made for."""
    found = of_disk(disk)
    return found.sector if found else 512


def _image_key(file: Path) -> tuple[object, ...]:
    """An unpacked image never changes; Nova sets its time whenever a server is made of it."""
    status = file.stat()
    return str(file), status.st_size, status.st_ino


def _disk_key(file: Path) -> tuple[object, ...]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns


def _kernel_key(file: Path) -> tuple[object, ...]:
    """Every server has a copy of its own; the header tells the architecture."""
    with file.open("rb") as stream:
        return file.stat().st_size, stream.read(4096)


_known: dict[tuple[object, ...], Inspection] = {}
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
