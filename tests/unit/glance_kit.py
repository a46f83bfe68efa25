"""A Glance for unit tests, as openstacksdk shows it; a real one takes a cloud (tests/e2e)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

FIELDS = {"os_hidden": "is_hidden", "min_ram": "min_ram", "min_disk": "min_disk"}
"""Glance's names of what is no property -> the SDK's."""
OWN = ("name", "visibility", "disk_format", "container_format", *FIELDS)


class Glance:
    """Of a cloud in which we are the project `ours`."""

    current_project_id = "ours"

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}
        self.ids = itertools.count()
        self.image = self
        self.refuses_data = False

    def shown(self) -> list[str]:
        return sorted(image.name for image in self.all.values() if not image.is_hidden)

    def images(self, *, is_hidden: bool = False, **wanted: str) -> Iterator[Any]:
        wanted |= {"is_hidden": is_hidden}
        return iter([i for i in self.all.values() if wanted.items() <= vars(i).items()])

    def find_image(self, image: str) -> Any:
        return self.all.get(image)

    def get_image(self, image: str) -> Any:
        return self.all[image]

    def store(self, name: str, data: bytes = b"", owner: str = "ours", **properties: str) -> Any:
        """An image that is there; queued without data."""
        image = self.all[
            self.post("/images", json={"name": name, "visibility": "public", **properties}).json()[
                "id"
            ]
        ]
        image.owner = owner
        if data:
            self.put(f"/images/{image.id}/file", data=[data])
        return image

    def post(self, _path: str, *, json: Mapping[str, Any]) -> Any:
        image = SimpleNamespace(id=f"{next(self.ids):08x}-{'0' * 23}", status="queued")
        image.owner, image.is_protected, image.is_hidden = "ours", False, False
        image.size, image.hash_algo, image.hash_value = None, "sha512", ""
        image.kernel_id = image.ramdisk_id = None
        image.properties = {}
        image.to_dict = lambda **_: {**image.properties, "visibility": image.visibility}
        for name, value in json.items():
            if name in OWN:
                setattr(image, FIELDS.get(name, name), value)
            else:
                self._say(image, name, value)
        self.all[image.id] = image
        return SimpleNamespace(status_code=201, json=lambda: {"id": image.id})

    def put(self, path: str, *, data: Iterable[bytes], **_: Any) -> Any:
        image = self.all[path.split("/")[2]]
        image.content = b"".join(data)
        if self.refuses_data:
            return SimpleNamespace(status_code=507, text="No room.")
        image.status, image.size = "active", len(image.content)
        image.hash_value = hashlib.sha512(image.content).hexdigest()
        return SimpleNamespace(status_code=204, text="")

    def patch(self, path: str, *, json: Iterable[Mapping[str, Any]], **_: Any) -> Any:
        image = self.all[path.split("/")[2]]
        for change in json:
            name = change["path"].removeprefix("/")
            if change["op"] == "remove":
                del image.properties[name]
            else:
                setattr(image, FIELDS[name], change["value"])
        return SimpleNamespace(status_code=200, text="")

    def update_image(self, image: Any, **changes: Any) -> None:
        found = self.all[image] if isinstance(image, str) else image
        for name, value in changes.items():
            if name in vars(found):
                setattr(found, name, value)
            if name not in ("name", "is_hidden", "is_protected", "visibility"):
                self._say(found, name, value)

    def delete_image(self, image: Any) -> None:
        del self.all[image if isinstance(image, str) else image.id]

    def download_image(self, image: Any, **_: Any) -> Any:
        return SimpleNamespace(iter_content=lambda _size: [image.content])

    def _say(self, image: Any, name: str, value: str) -> None:
        image.properties[name] = value
        if name in ("kernel_id", "ramdisk_id"):
            setattr(image, name, value)
