"""Glance's API, with what image data may cost and where it may come from.

Upstream 33.0.0
- takes any address but loopback and link-local ones for one to download images from
  (glance/common/utils.py, resolve_pinned_address): 0.0.0.0, [::], IPv4 in IPv6, private ones;
- opens it with every handler and proxy that Python has, and waits for ever
  (glance/common/scripts/utils.py, open_external_uri);
- holds projects to their limits only where a request names its size (hooks/imagequota.py);
- does not tell Nova how large a disk an image unpacks to (min_disk), fails on sizes above 63
  bits, and keeps the data of what it refuses (glance/location.py, set_data).
"""

from __future__ import annotations

import ipaddress
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import glance.location
from glance.api.v2.image_data import ImageDataController
from glance.async_.flows._internal_plugins import web_download
from glance.common import exception
from glance.common import utils as common_utils
from glance.common.scripts import utils as script_utils
from glance.db.sqlalchemy import api as database
from glance.wsgi.api import application
from oslo_config import cfg
from oslo_limit import limit
from oslo_log import log

from dozencloud import downloads
from dozencloud.hooks import imagelimits
from dozencloud.hooks.imageimport import fail
from dozencloud.hooks.imagequota import Counted, Ledger

__all__ = ["application"]

CONF, LOG = cfg.CONF, log.getLogger(__name__)
CONF.register_opts([cfg.ListOpt("download_from"), cfg.ListOpt("own_networks")], "dozencloud")

GIB, MIB = 1 << 30, 1 << 20
SILENCE = 30
"""Seconds without a byte after which a download has failed."""
GRACE, LEAST_RATE = 60, 32 << 10
"""Seconds, and then bytes per second on average: each download occupies a thread."""
REDIRECTS = 5
FAILED = (
    "The image could not be fetched: no public address gave it by http or https, without an error "
    "and in good time. Check the address, or upload the image."
)
"""Whatever the cause: who asks learns nothing about what answers where."""
SIZE, STAGE = "image_size_total", "image_stage_total"
USAGE: dict[str, Callable[[Any, str], int]] = {
    SIZE: database.user_get_storage_usage,
    STAGE: database.user_get_staging_usage,
}
LARGEST = (1 << 31) - 1
"""GiB that the database has room for."""

ledger = Ledger()


# ---- where images come from ---------------------------------------------------------------


def rules() -> downloads.Rules:
    """What the settings say."""
    mine = CONF.dozencloud
    return downloads.Rules(
        allowed=[downloads.Allowed.parse(each) for each in mine.download_from or ()],
        own=[ipaddress.ip_network(each) for each in mine.own_networks or ()],
        is_here=downloads.is_here,
    )


def get_validated_address(uri: str) -> list[str]:
    """IP addresses to connect to for that address; ValueError if it must not be fetched from."""
    return downloads.judge(uri or "", rules())


class Redirects(script_utils.SafeRedirectHandler):  # type: ignore[misc]  # glance is untyped
    """Each is judged as the first address was."""

    max_redirections = max_repeats = REDIRECTS


def open_external_uri(uri_or_request: Any) -> Any:
    """Open by http or https alone, without proxies; errors and all but 200 raise."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        Redirects,
        script_utils._ValidatedExternalHTTPHandler,
        script_utils._ValidatedExternalHTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    answer = opener.open(uri_or_request, timeout=SILENCE)
    if answer.status != 200:
        answer.close()
        raise exception.ImportTaskError(f"status {answer.status}")
    return answer


class Timely:
    """What is read from an answer, unless it comes too slowly."""

    def __init__(self, answer: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._answer, self._clock = answer, clock
        self._start, self._came = clock(), 0

    def read(self, size: int = -1) -> bytes:
        # One call to the socket; `read` would wait until all of it is there.
        piece: bytes = self._answer.read1(size)
        self._came += len(piece)
        if self._came < (self._clock() - self._start - GRACE) * LEAST_RATE:
            raise exception.ImportTaskError("the download is too slow")
        return piece

    def close(self) -> None:
        self._answer.close()


class WebDownload(web_download._WebDownload):  # type: ignore[misc]  # glance is untyped
    """Upstream's task of that name, counted, and with one sentence for all that can go wrong."""

    def __init__(self, *args: Any, context: Any) -> None:
        super().__init__(*args)
        self._context = context

    def execute(self) -> Any:
        try:
            answer = open_external_uri(self.uri)
            length = answer.headers.get("content-length", "")
            size = int(length) if length.isdecimal() else 0
            with counted(self._context, STAGE, Timely(answer)) as data:
                self._path, written = self.store.add(self.image_id, data, size)[:2]
            if size and written != size:
                raise exception.ImportTaskError(f"{written} of {size} bytes")
        except exception.StorageQuotaFull as full:
            raise self._failure(str(full)) from full
        except Exception as error:
            LOG.warning("Image %s from %s: %s", self.image_id, self.uri, error)
            raise self._failure(FAILED) from error
        return self._path

    def revert(self, result: Any, **kwargs: Any) -> None:
        # `fail` has set it `queued`, from where upstream's step to `queued` would be an error.
        with self.action_wrapper as action:
            if action.image_status == "queued":
                action.set_image_attribute(status="importing")
        super().revert(result, **kwargs)

    def _failure(self, reason: str) -> Exception:
        return fail(self.action_wrapper, reason)


def web_download_flow(**kwargs: Any) -> Any:
    """The flow of web-download, with our task."""
    task = WebDownload(
        kwargs.get("task_id"),
        kwargs.get("task_type"),
        kwargs["import_req"]["method"].get("uri"),
        kwargs.get("action_wrapper"),
        kwargs.get("backend", [None]),
        context=kwargs.get("context"),
    )
    return web_download.lf.Flow(kwargs.get("task_type")).add(task)


# ---- how much of them ---------------------------------------------------------------------


@contextmanager
def counted(context: Any, resource: str, data: Any) -> Iterator[Any]:
    """The data, which ends with an error where the project's limit or the disk does."""
    project = context.owner
    folder = Path(CONF.os_glance_staging_store.filesystem_store_datadir)
    with ledger.stream(f"{resource} {project}", room(context, resource)) as take:
        yield Counted(data, take, folder)


def room(context: Any, resource: str) -> int | None:
    """Bytes that the project has left; None for no limit."""
    if not CONF.use_keystone_limits:
        return None
    enforcer = limit.Enforcer(lambda *_: {})
    ((_, most),) = enforcer.get_project_limits(context.owner, [resource])
    return None if most < 0 else most * MIB - USAGE[resource](context, context.owner)


upload_of_upstream, stage_of_upstream = ImageDataController.upload, ImageDataController.stage


def upload(self: Any, req: Any, image_id: str, data: Any, size: int | None) -> Any:
    """PUT /v2/images/ID/file."""
    with counted(req.context, SIZE, data) as flow:
        return upload_of_upstream(self, req, image_id, flow, size)


def stage(self: Any, req: Any, image_id: str, data: Any, size: int | None) -> Any:
    """PUT /v2/images/ID/stage."""
    with counted(req.context, STAGE, data) as flow:
        return stage_of_upstream(self, req, image_id, flow, size)


# ---- what they unpack to ------------------------------------------------------------------

set_data_of_upstream = glance.location.ImageProxy.set_data


def set_data(
    self: Any, data: Any, size: Any = None, backend: Any = None, set_active: bool = True
) -> None:
    """Store the data; then no flavor with a smaller disk takes the image (Nova's API asks)."""
    try:
        set_data_of_upstream(self, data, size, backend, set_active)
        needed = -(-(self.image.virtual_size or 0) // GIB)
        if needed > LARGEST:
            raise exception.InvalidImageData("The disk in this image is larger than any disk.")
    except exception.InvalidImageData:
        # Upstream keeps the data, so that the image can take no other, and nobody sees it.
        while self.image.locations:
            place = self.image.locations.pop()
            self.store_api.delete(place["url"], place["metadata"]["store"], context=self.context)
        self.image.size = self.image.virtual_size = None
        self.image.checksum = self.image.os_hash_algo = self.image.os_hash_value = None
        raise
    self.image.min_disk = max(self.image.min_disk or 0, needed)


def use() -> None:
    common_utils.get_validated_address = get_validated_address
    script_utils.open_external_uri = open_external_uri
    web_download.get_flow = web_download_flow
    ImageDataController.upload, ImageDataController.stage = upload, stage
    glance.location.ImageProxy.set_data = set_data
    imagelimits.use()


use()
