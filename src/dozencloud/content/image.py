"""The small image in a new cloud: how it gets there, and whether servers can be made from it."""

from __future__ import annotations

from typing import Any

from dozencloud.cloud.installation import Cloud
from dozencloud.errors import Problem
from dozencloud.images.importing import Boots, Importer, inspect_or_refuse, wished
from dozencloud.images.inspection.model import Boot, Inspection
from dozencloud.images.joined import joined
from dozencloud.images.tiny.direct import PORTS, TinyImage
from dozencloud.tasks.graph import Step

DIGEST = "dozen_digest"
"""Property that tells one build of the small image from another."""


def name_of(architecture: str) -> str:
    """Its name in Glance. architecture: in Nova's word."""
    return f"tiny-{PORTS[architecture].debian}"


def id_of(sdk: Any, name: str) -> str:
    """Of the cloud's own image of that name, if it is active; others may call theirs so."""
    owner = sdk.current_project_id
    found = sdk.image.images(name=name, owner=owner, status="active")
    return next((str(image.id) for image in found), "")


def whole(sdk: Any, architecture: str) -> bool:
    """Servers can be made from the small image: it is there, and so are kernel and initrd."""
    there = id_of(sdk, name_of(architecture))
    if not there:
        return False
    image = sdk.image.get_image(there)
    return all(
        part and any(sdk.image.images(id=part, status="active"))
        for part in (image.kernel_id, image.ramdisk_id)
    )


def look(tiny: TinyImage) -> Inspection:
    """What is in the three files together; Problem if no server starts from them."""
    name = name_of(tiny.architecture)
    found = joined(
        inspect_or_refuse(tiny.disk, name),
        inspect_or_refuse(tiny.kernel, f"The kernel of {name}"),
        inspect_or_refuse(tiny.initrd, f"The initial RAM disk of {name}"),
        tiny.command_line,
    )
    if found.boot is Boot.NONE:
        raise Problem(
            f"{name} cannot start: {found.reason}",
            "Name the suite trixie, or update this software.",
        )
    return found


def put(sdk: Any, cloud: Cloud, tiny: TinyImage, found: Inspection, step: Step) -> None:
    """Image, kernel and initrd, for all projects; none of them is deleted by mistake.

    found: what `look` says of it.
    """

    def progress(what: str, done: int, size: int) -> None:
        step.note(f"{what}: {done * 10 // size * 10} %")

    importer = Importer(sdk, cloud.cache / "images", progress)
    own = {"os_distro": "debian", DIGEST: tiny.digest}
    boots = Boots(tiny.kernel, tiny.initrd)
    done = importer.store(
        tiny.disk, name_of(tiny.architecture), found, wished(found, own), boots, public=True
    )
    for older in done.stored.older:
        step.log.write(f"an older {done.name} is hidden now, as {older}\n")
    image = sdk.image.get_image(done.stored.id)
    for each in (image.id, image.kernel_id, image.ramdisk_id):
        if not sdk.image.get_image(each).is_protected:
            sdk.image.update_image(each, is_protected=True)
