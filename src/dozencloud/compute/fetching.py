"""What a node takes from Glance for a server: bounded before it comes, and before it is unpacked.

Upstream unpacks an image to raw in the cache and compares its size with the flavor then
(nova/virt/images.py, fetch_to_raw; nova/virt/libvirt/imagebackend.py, verify_base_size). It writes
kernels and initial RAM disks to where they are found by the next server, so that one that was cut
off counts as whole (nova/virt/libvirt/utils.py, fetch_raw_image).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nova.exception import FlavorDiskSmallerThanImage, ImageUnacceptable
from nova.virt.libvirt import utils as libvirt_utils

from nova.virt import images  # type: ignore[attr-defined]  # our nova/virt hides it

GIB = 1 << 30
LARGEST_BOOT_FILE = 512 << 20
"""Bytes of a kernel or initial RAM disk; the largest ones in use take 200 MiB."""

_largest: ContextVar[int] = ContextVar("largest", default=0)


@contextmanager
def at_most(gib: int) -> Iterator[None]:
    """What is fetched for a server inside has a disk of at most that size (0: of any)."""
    token = _largest.set(gib * GIB)
    try:
        yield
    finally:
        _largest.reset(token)


def refuse_larger(size: int) -> None:
    """FlavorDiskSmallerThanImage for a disk of so many bytes, where it is too large."""
    largest = _largest.get()
    if largest and size > largest:
        raise FlavorDiskSmallerThanImage(flavor_size=largest, image_size=size)


def fetch_image(context: Any, target: str, image_id: str, trusted_certs: Any = None) -> None:
    refuse_larger(int(images.IMAGE_API.get(context, image_id).get("size") or 0))
    images.fetch_to_raw(context, image_id, target, trusted_certs)


def fetch_raw_image(context: Any, target: str, image_id: str, trusted_certs: Any = None) -> None:
    size = int(images.IMAGE_API.get(context, image_id).get("size") or 0)
    if size > LARGEST_BOOT_FILE:
        reason = f"A kernel or initial RAM disk has at most {LARGEST_BOOT_FILE >> 20} MiB."
        raise ImageUnacceptable(image_id=image_id, reason=reason)
    part = f"{target}.part"
    images.fetch(context, image_id, part, trusted_certs)
    os.rename(part, target)  # noqa: PTH104  (as upstream names files)


inspect_of_upstream = images.do_image_deep_inspection


def do_image_deep_inspection(img: Any, image_href: str, path: str) -> Any:
    """Upstream's checks, after which QEMU may look at the file: then how large its disk is."""
    found = inspect_of_upstream(img, image_href, path)
    refuse_larger(int(images.qemu_img_info(path).virtual_size or 0))
    return found


def use() -> None:
    libvirt_utils.fetch_image = fetch_image
    libvirt_utils.fetch_raw_image = fetch_raw_image
    images.do_image_deep_inspection = do_image_deep_inspection
