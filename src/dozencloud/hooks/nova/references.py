"""Nova asks its own Glance for images, and nobody else.

Upstream takes a reference with a slash in it for an image of another Glance, and sends the token of
its user and its own service token to the address in it (nova/image/glance.py,
get_remote_image_service). References come from tenants: an image's `kernel_id`, `ramdisk_id`, and
`image_id` inside `block_device_mapping`.
"""

from __future__ import annotations

from typing import Any

from oslo_utils.uuidutils import is_uuid_like

SHOWN = 80
"""Characters of a reference that a refusal repeats."""


def use() -> None:
    """Refuse what is no UUID wherever this process resolves the reference of an image."""
    from nova.image import glance

    from nova import exception

    upstream = glance.get_remote_image_service
    if getattr(upstream, "refuses", False):
        return

    def get_remote_image_service(context: Any, image_href: Any) -> Any:
        if not is_uuid_like(image_href):
            raise exception.ImageUnacceptable(
                image_id=repr(str(image_href)[:SHOWN]),
                reason="images are named by their UUID, also in kernel_id, ramdisk_id and "
                "block_device_mapping of an image",
            )
        return upstream(context, image_href)

    get_remote_image_service.refuses = True  # type: ignore[attr-defined]
    glance.get_remote_image_service = get_remote_image_service
