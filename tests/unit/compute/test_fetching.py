"""What a node fetches for a server is bounded before it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

from nova.exception import FlavorDiskSmallerThanImage, ImageUnacceptable

from dozencloud.compute import fetching

GIB = 1 << 30


class Glance:
    def __init__(self, **found: Any) -> None:
        self.found = found

    def get(self, context: Any, image: str) -> dict[str, Any]:
        return self.found


@pytest.mark.parametrize(
    ("image", "taken"),
    [
        ({"size": GIB}, True),
        ({"size": GIB + 1}, False),
        ({"size": None}, True),
    ],
)
def test_a_large_image_is_not_downloaded(
    monkeypatch: pytest.MonkeyPatch, image: dict[str, Any], taken: bool
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(fetching.images, "IMAGE_API", Glance(**image))
    monkeypatch.setattr(fetching.images, "fetch_to_raw", lambda *given: fetched.append(given[2]))
    with fetching.at_most(1):
        if taken:
            fetching.fetch_image(None, "/base/x", "id")
        else:
            with pytest.raises(FlavorDiskSmallerThanImage):
                fetching.fetch_image(None, "/base/x", "id")
    assert fetched == (["/base/x"] if taken else [])


def test_the_bound_ends_with_the_server() -> None:
    with fetching.at_most(1), pytest.raises(FlavorDiskSmallerThanImage):
        fetching.refuse_larger(2 * GIB)
    fetching.refuse_larger(2 * GIB)


def test_a_disk_is_measured_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    info = type("Info", (), {"virtual_size": 2 * GIB})
    monkeypatch.setattr(fetching, "inspect_of_upstream", lambda *_: "qcow2")
    monkeypatch.setattr(fetching.images, "qemu_img_info", lambda path: info)
    with fetching.at_most(2):
        assert fetching.do_image_deep_inspection({}, "id", "/base/x.part") == "qcow2"
    with fetching.at_most(1), pytest.raises(FlavorDiskSmallerThanImage):
        fetching.do_image_deep_inspection({}, "id", "/base/x.part")


def test_a_kernel_is_there_when_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "kernel"

    def cut_off(context: Any, image: str, path: str, certs: Any) -> None:
        Path(path).write_bytes(b"half")
        raise ConnectionError

    monkeypatch.setattr(fetching.images, "IMAGE_API", Glance(size=10))
    monkeypatch.setattr(fetching.images, "fetch", cut_off)
    with pytest.raises(ConnectionError):
        fetching.fetch_raw_image(None, str(target), "id")
    assert not target.exists()
    monkeypatch.setattr(
        fetching.images, "fetch", lambda _, image, path, certs: Path(path).write_bytes(b"whole")
    )
    fetching.fetch_raw_image(None, str(target), "id")
    assert target.read_bytes() == b"whole"


def test_a_huge_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = fetching.LARGEST_BOOT_FILE + 1
    monkeypatch.setattr(fetching.images, "IMAGE_API", Glance(size=size))
    with pytest.raises(ImageUnacceptable, match="512 MiB"):
        fetching.fetch_raw_image(None, "/base/x", "id")
