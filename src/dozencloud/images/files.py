"""What all that makes or moves images does with files."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dozencloud.errors import Problem


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def sync(path: Path) -> None:
    """Write a file or a folder to the disk: a power cut must not leave it hollow."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def building(cache: Path, room: str) -> Iterator[None]:
    """Turn what the system refuses during a build into a Problem. room: how much to free."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(
                f"The disk under {cache} became full while the image was built.",
                f"Make about {room} free, then run it again.",
            ) from error
        raise Problem(
            f"The image cannot be built in {cache}: {error.strerror or error}.",
            "Check that folder's rights and disk, then run it again.",
        ) from error
