"""What an image may say of other images: their IDs, and nothing that leads elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dozencloud.errors import Problem
from dozencloud.images import links
from dozencloud.images.importing import Importer

ID = "b8b2c6f7-7345-4e2f-afa2-eedaba9cbbe3"
ELSEWHERE = (
    f"http://198.51.100.7:9292/v2/images/{ID}",
    f"//198.51.100.7/v2/images/{ID}",
    f"x/v2/images/{ID}",
    "../..",
    f"{ID}/..",
    f" {ID}",
    f"{ID}\n",
    "latest",
)


def devices(image: object, **more: object) -> str:
    return json.dumps([{"source_type": "image", "image_id": image, **more}])


def taken(name: str, value: str) -> bool:
    """By Glance, which searches as JSON Schema says."""
    return re.search(links.SCHEMA[name]["pattern"], value) is not None


@pytest.mark.parametrize("link", links.LINKS)
@pytest.mark.parametrize("value", ELSEWHERE)
def test_what_is_no_id_is_refused_with_a_sentence(link: str, value: str) -> None:
    with pytest.raises(Problem, match=rf"^{link} says .*, which is not the ID of an image"):
        links.check({link: value})
    # `$` of Python's expressions lets a line end pass; Nova then does not.
    assert not taken(link, value) or value.endswith("\n")


@pytest.mark.parametrize("value", ELSEWHERE)
def test_volumes_are_made_from_images_by_their_id(value: str) -> None:
    with pytest.raises(Problem, match=r"^image_id in block_device_mapping says"):
        links.check({links.VOLUMES: devices(value)})
    assert not taken(links.VOLUMES, devices(value))


@pytest.mark.parametrize(
    "text",
    [
        devices("x").replace('"image_id"', '"image\\u005fid"'),
        devices(ID).replace(ID, ID.replace("b", "\\u0062")),
        devices(ID) + devices("x/y/z"),
        devices(ID, more=[{"image_id": "x/y/z"}]),
    ],
)
def test_no_spelling_of_json_gets_around_it(text: str) -> None:
    assert not taken(links.VOLUMES, text)


@pytest.mark.parametrize("text", ["{", "7", '["x"]', "[" * 100000])
def test_what_is_no_list_of_devices_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="no list of devices"):
        links.check({links.VOLUMES: text})


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"kernel_id": ID, "ramdisk_id": ID.upper()},
        {"kernel_id": "", "ramdisk_id": None},
        {links.VOLUMES: devices(ID, device_name="/dev/vda")},
        {links.VOLUMES: devices(None)},
        {links.VOLUMES: ""},
    ],
)
def test_ids_are_taken(properties: dict[str, Any]) -> None:
    links.check(properties)
    assert all(taken(name, value) for name, value in properties.items() if value)


def test_an_import_refuses_before_it_looks_at_the_file(tmp_path: Path) -> None:
    importer = Importer(SimpleNamespace(image=None), tmp_path, lambda *_: None)
    with pytest.raises(Problem, match="kernel_id says"):
        importer.run(tmp_path / "missing", "x", own={"kernel_id": ELSEWHERE[0]})
