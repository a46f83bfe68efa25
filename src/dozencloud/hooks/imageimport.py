"""Glance's import plugin: what `dozen image import` does, for everybody who imports by the API.

Interoperable image import (glance-direct, web-download) runs it between staging and storing; see
glance/async_/flows/plugins of the pinned release. The entry point is in pyproject.toml.
"""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from glance.common import exception
from oslo_config import cfg
from oslo_log import log
from taskflow import task
from taskflow.patterns import linear_flow

from dozencloud.errors import Problem
from dozencloud.images import links
from dozencloud.images.importing import formats_of, inspect_or_refuse, take_out
from dozencloud.images.inspection.model import Boot, Compression, Format, Inspection
from dozencloud.images.properties import merge, properties

LOG = log.getLogger(__name__)
REFUSED = "dozen_refused"
"""Property that says why an import failed; the image's tasks (API v2.12) say it too."""


BOOT_FILES = {
    "aki": (Format.KERNEL, "a kernel"),
    "ari": (Format.INITRD, "an initial RAM disk"),
}
"""Glance's container formats for what a server starts from beside its disk."""
inspections = threading.Semaphore(2)
"""At a time: each may need a work file of several GiB (inspection/streams.py, MAX_SPOOLED)."""


def fail(action_wrapper: Any, reason: str) -> Exception:
    """What to raise where an import fails: the reason reaches the user, by task and image."""
    with action_wrapper as action:
        action.set_image_extra_properties({REFUSED: reason[:255]})
        # Glance leaves it `importing` for ever; now something else can be uploaded.
        action.set_image_attribute(status="queued")
    # The one exception whose message Glance hands on (glance/async_/taskflow_executor.py).
    return exception.UploadException(reason)  # type: ignore[no-any-return]  # glance is untyped


class Inspect(task.Task):  # type: ignore[misc]  # taskflow is untyped
    """Looks into the staged file; sets what the owner did not, or ends the import with a reason."""

    default_provides = "file_path"

    def __init__(self, flow: dict[str, Any]) -> None:
        super().__init__(name=f"{flow['task_type']}-Inspect-{flow['task_id']}")
        self.flow = flow
        self.action_wrapper = flow["action_wrapper"]

    def execute(self, file_path: str, **_: Any) -> str:
        staged = Path(file_path.removeprefix("file://"))
        try:
            with self.action_wrapper as action:
                self.apply(action, staged)
        except Problem as problem:
            staged.unlink(missing_ok=True)
            raise fail(self.action_wrapper, f"{problem.what} {problem.mend}".strip()) from problem
        return file_path

    def apply(self, action: Any, staged: Path) -> None:
        """Set the image's properties; Problem if no server can start from it."""
        links.check(action.image_extra_properties)
        with inspections:
            inspection = inspect_or_refuse(staged, "This image")
        if action.image_container_format in BOOT_FILES:
            self.check_boot_file(action.image_container_format, inspection)
            action.pop_extra_property(REFUSED)
            return
        if inspection.boot is Boot.NONE:
            raise Problem(
                f"This image cannot start: {inspection.reason}",
                "Upload an image for ARM that starts by UEFI.",
            )
        if inspection.compression is not Compression.NONE and inspection.boot is not Boot.ROOTFS:
            raise Problem(
                f"This image is wrapped in {inspection.compression}, which servers cannot start.",
                "Unpack it, then upload that.",
            )
        self.check_format(action, inspection)
        owner = action.image_extra_properties
        found = merge(owner, properties(inspection))
        if inspection.boot is Boot.KERNEL and "kernel_id" not in owner:
            found |= self.boot_images(staged, inspection)
        action.pop_extra_property(REFUSED)
        action.set_image_extra_properties(found)
        LOG.info("Image %s: %s, by %s", action.image_id, inspection.arch, inspection.boot)

    def check_boot_file(self, kind: str, inspection: Inspection) -> None:
        """A kernel and an initial RAM disk are shown to who imported them, as they are."""
        wanted, words = BOOT_FILES[kind]
        if inspection.format is not wanted:
            raise Problem(
                f"This image was announced as {words} ({kind}), and is none.",
                f"Import {words}, or a disk with another format.",
            )

    def check_format(self, action: Any, inspection: Inspection) -> None:
        """A disk under a wrong name would be written to servers' disks as it is."""
        wanted, _ = formats_of(inspection)
        said = action.image_disk_format
        if inspection.boot is not Boot.ROOTFS and said != wanted:
            raise Problem(
                f"This image was announced as {said}, but it is {wanted}.",
                f"Import it with: --disk-format {wanted}",
            )

    def boot_images(self, staged: Path, inspection: Inspection) -> dict[str, str]:
        """Kernel and initrd as images of the same owner; their links."""
        with TemporaryDirectory(dir=staged.parent) as folder:
            boots = take_out(staged, Path(folder), inspection)
            links = {"kernel_id": self.store("kernel", "aki", boots.kernel)}
            if boots.initrd:
                links["ramdisk_id"] = self.store("initrd", "ari", boots.initrd)
        return links

    def store(self, what: str, kind: str, path: Path) -> str:
        """Id of a new image with the file's content."""
        repo = self.flow["image_repo"]
        image = self.flow["image_factory"].new_image(
            name=f"{self.flow['image_id']}-{what}",
            disk_format=kind,
            container_format=kind,
            owner=self.flow["context"].owner,
            extra_properties={"dozen_boots": self.flow["image_id"]},
        )
        repo.add(image)
        with path.open("rb") as file:
            image.set_data(
                iter(lambda: file.read(1 << 20), b""),
                size=path.stat().st_size,
                backend=cfg.CONF.glance_store.default_backend,
            )
        repo.save(image)
        return str(image.image_id)


def get_flow(**kwargs: Any) -> Any:
    """What Glance calls: the flow of this plugin."""
    return linear_flow.Flow(kwargs["task_type"]).add(Inspect(kwargs))
