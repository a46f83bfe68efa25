"""HTTP for images: small texts, and large files that continue where they stopped.

A proxy and extra certificates come from the usual environment variables (HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE), which `requests` reads.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3 import exceptions as lower

from dozencloud.errors import Exit, Problem, network_reason

Progress = Callable[[int, int], None]

CONNECT_SECONDS, READ_SECONDS = 10, 30
SLOW_SECONDS, SLOW_RATE = 60, 1024
"""Over so many seconds, fewer bytes a second than this is an end, not a wait."""
TRIES, PAUSE_SECONDS = 5, 2.0
"""How often one run continues a download that was cut."""
BLOCK = 1 << 18
TEXT_LIMIT = 64 << 20
"""Bytes. linuxcontainers.org's index, the largest text, has a few MiB."""

_MIRROR = "Set another mirror for it in cloud.toml, or try again later."


def session() -> requests.Session:
    """A session for one fetch. Bytes are wanted as they are stored, since sums are of those."""
    made = requests.Session()
    made.headers.update({"User-Agent": "dozencloud", "Accept-Encoding": "identity"})
    return made


def host(url: str) -> str:
    """The host's name, for the person; never the password that may stand before it."""
    return urlsplit(url).hostname or url


def public(url: str) -> str:
    """The address without a user's name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def text(web: requests.Session, url: str) -> bytes:
    """A listing, a file of sums, a signature."""
    with _open(web, url, {}) as response:
        hops = [hop.url for hop in (*response.history, response)]
        if url.startswith("https:") and any(hop.startswith("http:") for hop in hops):
            raise Problem(
                f"{host(url)} sends us from HTTPS to plain HTTP for {_name(url)}.",
                "What comes that way proves nothing. Set another mirror for it in cloud.toml.",
            )
        got = bytearray()
        for block in _blocks(url, response.raw):
            got += block
            if len(got) > TEXT_LIMIT:
                raise Problem(
                    f"{host(url)} sends {_name(url)} without end.",
                    "The catalogue's address may be wrong. " + _MIRROR,
                )
    return bytes(got)


@contextmanager
def unfinished(part: Path) -> Iterator[BinaryIO]:
    """The file of a download that is not done, for one process at a time."""
    try:
        # Unbuffered: what did not fit on the disk must not come back when the file is closed.
        file = part.open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(part, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock may have given the file its name in between.
            if not (part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())):
                raise BlockingIOError
        except BlockingIOError as error:
            raise Problem(
                f"Another dozen is downloading {part.stem} just now.",
                "Wait for it, or stop it first.",
                code=Exit.BUSY,
            ) from error
        yield file


def download(
    web: requests.Session,
    url: str,
    file: BinaryIO,
    part: Path,
    digest: str,
    progress: Progress,
) -> None:
    """What is at `url` into `file` (`unfinished`); goes on with what an earlier run left there.

    digest: the sum that it shall have, empty if not known. What is left belongs to another file if
    the address, the sum or the server's validator differ; then it starts anew.
    """
    for attempt in range(TRIES):
        try:
            return _attempt(web, url, file, part, digest, progress)
        except _Cut:
            if attempt == TRIES - 1:
                raise
            time.sleep(PAUSE_SECONDS)
        except OSError as error:
            raise _unwritable(part, error) from error


def forget(part: Path) -> None:
    """Remove an unfinished download, with the note beside it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def keep(part: Path, final: Path) -> None:
    """Give a download that was proved its name."""
    part.replace(final)
    _note(part).unlink(missing_ok=True)


class _Cut(Problem):
    """The connection broke: worth another try."""


def _attempt(
    web: requests.Session, url: str, file: BinaryIO, part: Path, digest: str, progress: Progress
) -> None:
    start, note = file.seek(0, os.SEEK_END), _read_note(part)
    if (note.get("url"), note.get("digest")) != (public(url), digest):
        start = 0
    if start and start == note.get("total"):
        progress(start, start)
        return
    if not note.get("validator") or start > int(note.get("total", 0)):
        start = 0
    ask = {"Range": f"bytes={start}-", "If-Range": str(note["validator"])} if start else {}
    with _open(web, url, ask) as response:
        if response.status_code == 200:
            start = 0
        elif _range_start(response) != start:
            raise Problem(
                f"{host(url)} sends another part of {_name(url)} than we asked for.",
                f"Remove {part} and try again.",
            )
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else 0
        file.truncate(start)
        note = {
            "url": public(url),
            "digest": digest,
            "validator": _validator(response),
            "total": total,
        }
        _note(part).write_text(json.dumps(note))
        _need_room(part, total - start)
        done = start
        progress(done, total)
        for block in _blocks(url, response.raw):
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
            done += len(block)
            progress(done, total)
        os.fsync(file.fileno())


def _validator(response: requests.Response) -> str:
    """What If-Range may carry (RFC 9110, 13.1.5): a strong entity tag, else the date."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "")


def _range_start(response: requests.Response) -> int:
    """From "Content-Range: bytes START-END/TOTAL"; -1 if there is none."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else -1


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, str | int]:
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _need_room(part: Path, more: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if more > free:
        raise _full(part, f"{_mib(more)} more are needed and {_mib(free)} are free")


def _full(part: Path, why: str) -> Problem:
    return Problem(
        f"There is no room for the image in {part.parent}: {why}.",
        f"Make room and run the same again: it goes on where it stopped. What it has is {part}.",
    )


def _unwritable(part: Path, error: OSError) -> Problem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _full(part, (error.strerror or str(error)).lower())
    return Problem(
        f"{part} cannot be written: {(error.strerror or str(error)).lower()}.",
        "Choose another folder, or mend its rights.",
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _name(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2] or urlsplit(url).path


def _blocks(url: str, raw: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it arrives; a broken or crawling connection is a _Cut or a Problem."""
    since, seen = time.monotonic(), 0
    try:
        while block := raw.read1(BLOCK, decode_content=False):
            yield block
            seen += len(block)
            passed = time.monotonic() - since
            if passed >= SLOW_SECONDS:
                if seen < passed * SLOW_RATE:
                    raise Problem(
                        f"{host(url)} is too slow: {seen / passed:.0f} bytes a second.", _MIRROR
                    )
                since, seen = time.monotonic(), 0
    except lower.ReadTimeoutError as error:
        raise _Cut(f"{host(url)} sent nothing more for {READ_SECONDS} s.", _MIRROR) from error
    except lower.HTTPError as error:
        raise _Cut(
            f"{host(url)} cut the connection in the middle of {_name(url)}.",
            "Run the same again: it goes on where it stopped.",
        ) from error


@contextmanager
def _open(web: requests.Session, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """The answer to GET if it is a good one."""
    try:
        response = web.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
    except requests.RequestException as error:
        raise _unreachable(url, error) from error
    with response:
        if response.status_code not in (200, 206):
            raise _refused(response.url, response.status_code)
        yield response


def _refused(url: str, status: int) -> Problem:
    place = host(url)
    if status in (404, 410):
        return Problem(
            f"{place} has no {urlsplit(url).path} ({status}).",
            "The publisher may have moved it. See if a newer DozenCloud knows the new place, "
            "or set another mirror for it in cloud.toml.",
        )
    if status in (401, 403, 407):
        return Problem(
            f"{place} does not let us have {_name(url)} ({status}).",
            "Check the mirror or the proxy, and the name and password in its address.",
        )
    if status == 429 or status >= 500:
        return Problem(f"{place} is out of order or overloaded ({status}).", _MIRROR)
    return Problem(f"{place} answers {status} for {_name(url)}.", _MIRROR)


def _unreachable(url: str, error: requests.RequestException) -> Problem:
    asked = getattr(error.request, "url", None)
    place = host(str(asked or url))
    if isinstance(error, requests.exceptions.ProxyError):
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        return Problem(
            f"The proxy {host(proxy or '')} does not connect us to {place}.",
            "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY, and that the proxy allows this host.",
            detail=str(error),
        )
    if isinstance(error, requests.exceptions.SSLError):
        return Problem(
            f"The certificate of {place} is not to be trusted.",
            "Check this machine's clock. If a proxy or mirror of your own has its own authority, "
            "set REQUESTS_CA_BUNDLE to a file with its certificate.",
            detail=str(error),
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Problem(f"{place} did not answer within {CONNECT_SECONDS} s.", _MIRROR)
    if isinstance(error, requests.exceptions.Timeout):
        return Problem(f"{place} sent nothing for {READ_SECONDS} s.", _MIRROR)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return Problem(f"{place} sends us in circles.", _MIRROR)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return Problem(f"{place} sends us to an address that is none.", _MIRROR)
    return Problem(
        f"{place} cannot be reached: {network_reason(error)}.",
        "Check this machine's network and name service; behind a proxy, set HTTPS_PROXY.",
        detail=str(error),
    )
