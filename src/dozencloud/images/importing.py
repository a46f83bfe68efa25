"""Images into Glance: inspected, with properties, kernel and initrd beside them where needed."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dozencloud import legible
from dozencloud.errors import Problem
from dozencloud.images import links, uploads
from dozencloud.images.inspection.confine import (
    LARGEST_EXTRACTED,
    extract_file,
    inspect_file,
    unpack_file,
)
from dozencloud.images.inspection.model import (
    Boot,
    Compression,
    Format,
    Inspection,
)
from dozencloud.images.inspection.tree import BadImage
from dozencloud.images.joined import joined
from dozencloud.images.properties import disk_format, merge, properties
from dozencloud.images.uploads import CHUNK, Part, Progress, Stored, Uploads

LONGEST = uploads.LONGEST - len("-kernel")
"""Characters of a name: of its kernel's and initrd's, too."""

FORCED = {"dozen_boot_check": "skip"}
"""Properties with which the driver starts what cannot start (compute.libvirt.bootcheck)."""


@dataclass(frozen=True)
class Imported:
    """An image in Glance, under its name, and what is in it."""

    name: str
    inspection: Inspection
    stored: Stored


@dataclass(frozen=True)
class Boots:
    """Kernel and initrd (or None) that a server of an image starts with."""

    kernel: Path
    initrd: Path | None


def inspect_or_refuse(path: Path, name: str, file: str = "FILE") -> Inspection:
    """What is in the file; Problem, with the name that people know it by, if it cannot be read.

    file: its name in a command that mends it.
    """
    try:
        return inspect_file(path)
    except BadImage as bad:
        raise unusable(bad, name, file) from bad


def unusable(bad: BadImage, name: str, file: str = "FILE") -> Problem:
    """What to tell of an image that cannot be read. file: its name in a command."""
    return Problem(f"{name} cannot be used: {bad}", bad.mend.replace("FILE", shlex.quote(file)))


def refuse_hopeless(inspection: Inspection, name: str) -> None:
    """Problem if no server starts from it."""
    if inspection.boot is Boot.NONE:
        raise Problem(
            f"{name} cannot start: {inspection.reason}",
            "Get an image for ARM that starts by UEFI. To import it all the same: --force",
        )


def check_texts(name: str, own: Mapping[str, str]) -> None:
    """Problem where Glance, or its database, would not take the name or a property."""
    if not 0 < len(name) <= LONGEST:
        raise Problem(
            f"The image's name has {len(name)} characters.", f"Give it 1 to {LONGEST}: --name NAME"
        )
    if not _storable(name):
        raise Problem(
            f"The cloud's databases cannot store a character of the name {legible.line(name)}: "
            "they know those up to U+FFFF, which an emoji is not.",
            "Give it another name: --name NAME",
        )
    if not _one_line(name):
        raise Problem(
            f"The name {legible.line(name)} is not one line of text.",
            "Give it another name: --name NAME",
        )
    for key, value in own.items():
        if not key or len(key) > 255 or not _storable(key + value) or not _one_line(key):
            raise Problem(
                f"Glance takes no property {legible.line(key)[:80]!r} with the value "
                f"{legible.line(value)[:80]!r}.",
                "Name it in 1 to 255 characters up to U+FFFF: --property KEY=VALUE",
            )


def _storable(text: str) -> bool:
    return all(char <= "\uffff" and not "\ud800" <= char <= "\udfff" for char in text)


def _one_line(text: str) -> bool:
    return all(char >= " " for char in text)


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A folder for one import; those of imports that were killed are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob("import-*"):
        with suppress(OSError), held(old):
            shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix="import-", dir=parent) as folder, held(Path(folder)):
        yield Path(folder)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, which ends with this process; OSError if another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def wished(
    inspection: Inspection, own: Mapping[str, str], *, force: bool = False
) -> dict[str, str]:
    """The properties of an image: what its owner says, and what was found. force: see run."""
    if force:
        return {**properties(inspection), **FORCED, **own}
    return {**merge(own, properties(inspection)), **own}


class Importer:
    """Puts images into one cloud's Glance. work: a folder on a disk with room for an image."""

    def __init__(self, sdk: Any, work: Path, progress: Progress) -> None:
        self.work, self.progress = work, progress
        self._images = sdk.image
        self._uploads = Uploads(sdk, progress)

    def run(
        self,
        path: Path,
        name: str,
        *,
        own: Mapping[str, str] | None = None,
        public: bool = False,
        force: bool = False,
        file: str = "FILE",
    ) -> Imported:
        """Import the file under that name; the same content again changes nothing.

        own: properties that the person set, which win. force: import what cannot start. file: its
        name in a command that mends it.
        """
        own = own or {}
        check_texts(name, own)
        links.check(own)
        inspection = inspect_or_refuse(path, path.name, file)
        if not force:
            refuse_hopeless(inspection, name)
        wanted = wished(inspection, own, force=force)
        with work_folder(self.work) as folder:
            source = path
            if inspection.compression is not Compression.NONE and inspection.format in DISKS:
                source = self._unpack(path, folder, inspection)
            boots = None
            if inspection.boot is Boot.KERNEL and inspection.format is not Format.KERNEL:
                boots = take_out(source, folder, inspection)
            return self.store(source, name, inspection, wanted, boots, public=public)

    def store(
        self,
        path: Path,
        name: str,
        inspection: Inspection,
        wanted: Mapping[str, str],
        boots: Boots | None = None,
        *,
        public: bool = False,
    ) -> Imported:
        """Put what was inspected into Glance, with these properties, and kernel and initrd beside.

        An older image of that name is hidden under another one, and so are its kernel and initrd.
        """
        for kind in ("", "-kernel", "-initrd"):
            self._uploads.remove_partial(f"{name}{kind}")
        beside = self._boot_images(boots, name, public=public) if boots else {}
        part = Part(
            name,
            path,
            *formats_of(inspection),
            {**beside, **wanted},
            min_disk=inspection.min_disk,
            min_memory=inspection.min_memory,
        )
        return Imported(name, inspection, self._uploads.put(part, public=public))

    def inspect(self, image: str, folder: Path) -> Inspection:
        """What is in an image of the cloud, together with the kernel that it names."""
        found = self._found(image)
        inspection = inspect_or_refuse(self._fetch(found, folder), found.name or image)
        if not found.kernel_id:
            return inspection
        parts = {
            link: inspect_or_refuse(self._fetch(self._found(part), folder), f"Its {word}")
            for link, word in (("kernel_id", "kernel"), ("ramdisk_id", "initial RAM disk"))
            if (part := getattr(found, link))
        }
        line = found.to_dict(original_names=True).get("os_command_line") or ""
        return joined(inspection, parts["kernel_id"], parts.get("ramdisk_id"), line)

    def _found(self, image: str) -> Any:
        found = self._images.find_image(image)
        if found is None:
            raise Problem(f"There is no image {image} in the cloud.", "See: dozen image list")
        if found.status != "active":
            raise Problem(
                f"The image {image} has no content: it is {found.status}.",
                "Upload it, or wait until its import has ended.",
            )
        return found

    def _fetch(self, found: Any, folder: Path) -> Path:
        """The content of an image in the cloud as a file."""
        target = folder / str(found.id)
        room_for(folder, found.size or 0)
        with target.open("wb") as out:
            for chunk in self._images.download_image(found, stream=True).iter_content(CHUNK):
                out.write(chunk)
                self.progress("fetched", out.tell(), found.size or 0)
        return target

    def _boot_images(self, boots: Boots, name: str, *, public: bool) -> dict[str, str]:
        """Kernel and initrd as images of their own; their links."""
        parts = {"kernel_id": Part(f"{name}-kernel", boots.kernel, "aki", "aki", {})}
        if boots.initrd:
            parts["ramdisk_id"] = Part(f"{name}-initrd", boots.initrd, "ari", "ari", {})
        return {link: self._uploads.put(part, public=public).id for link, part in parts.items()}

    def _unpack(self, path: Path, folder: Path, inspection: Inspection) -> Path:
        target = folder / "disk"
        # What a file with tables unpacks to nobody knows; inspection has unpacked it to its end.
        size = inspection.virtual_size if inspection.format is Format.RAW else 0
        room_for(folder, size)
        try:
            with target.open("wb") as out:
                for chunk in unpack_file(path):
                    out.write(chunk)
                    self.progress("unpacked", out.tell(), size or out.tell())
        except BadImage as bad:
            raise unusable(bad, path.name) from bad
        if (there := target.stat().st_size) < size:
            raise Problem(
                f"{path.name} cannot be used: it unpacks to {there:,} bytes, and the disk in it "
                f"has {size:,}: it is cut off.",
                "Get the image again.",
            )
        return target


def summary(sdk: Any) -> list[dict[str, str]]:
    """The cloud's images in words, without the kernels and initrds that belong to others."""
    return [
        {
            "name": image.name,
            "status": image.status,
            "architecture": image.properties.get("hw_architecture", ""),
            "boots": _method(image),
            "size": f"{(image.size or 0) >> 20} MiB",
            "id": image.id,
        }
        for image in sdk.image.images()
        if image.container_format not in ("aki", "ari")
    ]


def _method(image: Any) -> str:
    if image.container_format == "docker":
        return Boot.ROOTFS.value
    if image.kernel_id:
        return Boot.KERNEL.value
    # Of one that was not imported it is unknown: its node goes by the bytes.
    return Boot.UEFI.value if image.properties.get("hw_firmware_type") == "uefi" else ""


DISKS = (Format.RAW, Format.QCOW2, Format.VMDK, Format.VHDX)


def formats_of(inspection: Inspection) -> tuple[str, str]:
    """Glance's disk and container format."""
    if inspection.boot is Boot.ROOTFS:
        # Glance's word for an archive of a root file system; it looks into `bare` ones only.
        return "raw", "docker"
    if inspection.format is Format.KERNEL:
        return "aki", "aki"
    if inspection.format is Format.INITRD:
        return "ari", "ari"
    return disk_format(inspection), "bare"


def take_out(path: Path, folder: Path, inspection: Inspection) -> Boots:
    """Kernel and initrd of an image as files that QEMU starts; of several initrds one.

    A compressed 32-bit kernel is unpacked, which the guest would do at every boot again: more than
    a second there.
    """
    kernel, initrds = inspection.kernel, inspection.initrds
    if kernel is None:
        raise Problem("The image has no kernel that could be started.", "Use another image.")
    try:
        extract_file(path, kernel.where, kernel.path, folder / "kernel", form="kernel")
        if not initrds:
            return Boots(folder / "kernel", None)
        with (folder / "initrd").open("wb") as out:
            for initrd in initrds:
                # Each is an archive of its own, aligned as Linux wants it (init/initramfs.c).
                out.write(bytes(-out.tell() % 4))
                extract_file(path, initrd.where, initrd.path, folder / "part", form="initrd")
                with (folder / "part").open("rb") as part:
                    shutil.copyfileobj(part, out)
                if out.tell() > LARGEST_EXTRACTED:
                    raise BadImage("Its initial RAM disks have more than 512 MiB together.")
    except BadImage as bad:
        raise Problem(f"The kernel of the image cannot be used: {bad}", "Get it again.") from bad
    return Boots(folder / "kernel", folder / "initrd")


def room_for(folder: Path, size: int) -> None:
    """Problem if the file system of `folder` has less than `size` bytes free."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    state = os.statvfs(there)
    free = state.f_bavail * state.f_frsize
    if free < size:
        raise Problem(
            f"{there} has {free >> 20} MiB free; the image needs {size >> 20} MiB.",
            "Make room there, then run this again.",
        )
