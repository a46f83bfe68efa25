"""Files as images of one project in Glance, each name for the newest of its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dozencloud.errors import Problem
from dozencloud.images.files import file_hash

CHUNK = 1 << 20  # bytes per write
PARTIAL = "dozen_import"
"""Property of an image whose upload has not ended; what a killed import leaves is known by it."""
LONGEST = 255
"""Characters of an image's name in Glance."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, bytes so far, and bytes in all."""


@dataclass(frozen=True)
class Part:
    """A file on its way into Glance. min_disk: GiB. min_memory: MiB."""

    name: str
    path: Path
    disk_format: str
    container_format: str
    properties: Mapping[str, str]
    min_disk: int = 0
    min_memory: int = 0


@dataclass(frozen=True)
class Stored:
    """An image in Glance. new: it was not there before. older: what those are called now that had
    its name."""

    id: str
    new: bool
    older: tuple[str, ...] = ()


class Uploads:
    """Those of the connection's own project; other projects may give any name to theirs."""

    def __init__(self, sdk: Any, progress: Progress) -> None:
        self._sdk, self._images, self.progress = sdk, sdk.image, progress

    def put(self, part: Part, *, public: bool) -> Stored:
        """The image of that name with that content; the same content again changes nothing.

        Older ones lose the name and are hidden. They stay for their servers and these's snapshots,
        which need them when they are resized or rescued.
        """
        there = self._same(part, public=public)
        image = there or self._upload(part, public=public)
        older = tuple(self._step_aside(each) for each in self._named(part.name, but=image))
        if not there:
            self._show(image, part)
        return Stored(image, not there, older)

    def remove_partial(self, name: str) -> None:
        """Remove what a killed import left of that name."""
        for hidden in (True, False):
            for image in self._named(name, is_hidden=hidden):
                # One that is active and shown may have servers.
                if PARTIAL in image.properties and (hidden or image.status != "active"):
                    self._images.delete_image(image)

    def _named(self, name: str, *, but: str = "", **more: Any) -> list[Any]:
        owner = self._sdk.current_project_id
        found = self._images.images(name=name, owner=owner, **more)
        return [image for image in found if image.id != but]

    def _same(self, part: Part, *, public: bool) -> str:
        """Id of an active image of that name with the same content; empty if there is none.

        Its properties are brought up to date, and it becomes public if that is wanted. Content is
        compared only where the size is the same, by the hash that Glance made (sha512 by default).
        """
        size = part.path.stat().st_size
        for image in self._named(part.name):
            if image.status != "active" or image.size != size or not image.hash_value:
                continue
            if file_hash(part.path, image.hash_algo) == image.hash_value:
                self._update(image, part.properties, public=public)
                return str(image.id)
        return ""

    def _update(self, image: Any, wanted: Mapping[str, str], *, public: bool) -> None:
        there = {**image.properties, **image.to_dict(original_names=True)}
        wanted = {**wanted, **({"visibility": "public"} if public else {})}
        changed = {k: v for k, v in wanted.items() if str(there.get(k, "")) != v}
        if changed:
            self._images.update_image(image.id, **changed)

    def _step_aside(self, image: Any) -> str:
        """Hide the image under another name; that name."""
        ending = f"-{image.id[:8]}"
        name = f"{image.name[: LONGEST - len(ending)]}{ending}"
        self._images.update_image(image, name=name, is_hidden=True)
        return name

    def _upload(self, part: Part, *, public: bool) -> str:
        """Id of the new image, still hidden; nothing is left of one that could not be uploaded."""
        image = self._create(part, public=public)
        try:
            answer = self._images.put(
                f"/images/{image}/file",
                headers={"Content-Type": "application/octet-stream"},
                data=self._read(part),
            )
            _demand(204, answer, part)
        except BaseException:
            with suppress(Exception):  # the cause is what must be heard
                self._images.delete_image(image)
            raise
        return image

    def _create(self, part: Part, *, public: bool) -> str:
        # The SDK's create_image uploads a file of this folder that is called as the image.
        answer = self._images.post(
            "/images",
            json={
                "name": part.name,
                "disk_format": part.disk_format,
                "container_format": part.container_format,
                "visibility": "public" if public else "private",
                "min_disk": part.min_disk,
                "min_ram": part.min_memory,
                "os_hidden": True,
                PARTIAL: "1",
                **part.properties,
            },
        )
        _demand(201, answer, part)
        return str(answer.json()["id"])

    def _show(self, image: str, part: Part) -> None:
        """From now on it is found by its name."""
        changes = [
            {"op": "replace", "path": "/os_hidden", "value": False},
            {"op": "remove", "path": f"/{PARTIAL}"},
        ]
        kind = "application/openstack-images-v2.1-json-patch"
        headers = {"Content-Type": kind}
        _demand(200, self._images.patch(f"/images/{image}", json=changes, headers=headers), part)

    def _read(self, part: Part) -> Iterator[bytes]:
        size = part.path.stat().st_size
        sent = 0
        with part.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
                sent += len(chunk)
                self.progress(f"{part.name} uploaded", sent, size)


def _demand(status: int, answer: Any, part: Part) -> None:
    if answer.status_code != status:
        raise Problem(
            f"Glance did not take {part.name}: {_said(answer)}.",
            "See the log of glance (dozen logs glance), then run this again.",
        )


def _said(answer: Any) -> str:
    """The words of an HTTP error of an OpenStack API."""
    text = str(answer.text).strip()
    return (text.splitlines()[-1] if text else f"HTTP {answer.status_code}").rstrip(".")[:300]
