"""Inspection in a process of its own that can read one file and nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from dozencloud.images.inspection.model import Inspection
from dozencloud.images.inspection.tree import BadImage

WORK = Path("/var/tmp")  # noqa: S108  (an unnamed file only)
"""Where a compressed image is unpacked to: on disk, where /tmp may be memory."""
MAX_ANSWER = 16 << 20
"""Bytes of an inspection: 10,000 loaders with long names take 3 MiB."""
MAX_SENTENCE = 64 << 10
"""Bytes of an error: what a pipe holds."""
CHUNK = 1 << 20
"""Bytes read at a time."""
LARGEST_EXTRACTED = 512 << 20
"""Bytes of a kernel or initial RAM disk, unpacked; the largest ones in use take 200 MiB."""
SLOW = 600
"""Seconds for unpacking a whole image."""
_ROOT = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from dozencloud.images.inspection.worker import main; main()"
)


def inspect_file(file: Path | int, *, seconds: float = 30, work: Path = WORK) -> Inspection:
    """Inspect the image at a path or behind a descriptor; BadImage if it cannot be read.

    seconds: that it may take. work: the folder of its work file, for a compressed image.
    """
    answer = b""
    for piece in _run(file, {"task": "inspect"}, seconds, time.monotonic() + seconds, work):
        answer += piece
        if len(answer) > MAX_ANSWER:
            raise BadImage("The inspection of the image tells more than anyone can read.")
    try:
        return Inspection.from_json(answer.decode())
    except (ValueError, KeyError, TypeError) as error:
        raise BadImage("The inspection of the image ended without an answer.") from error


def extract_file(
    file: Path | int, where: int, path: str, target: Path, *, form: str = "", work: Path = WORK
) -> None:
    """Write the file `path` in partition `where` of the image to `target`.

    path: empty for a bare kernel or initrd.  form: "kernel" for one that QEMU starts, "initrd" also
    out of a unified kernel image; empty for the file as it is.
    """
    order: dict[str, str | int] = {"task": "extract", "where": where, "path": path, "form": form}
    with target.open("wb") as out:
        for piece in _run(file, order, SLOW, None, work):
            out.write(piece)
            if out.tell() > LARGEST_EXTRACTED:
                raise BadImage("A file in the image is too large for a server to start from.")


def unpack_file(file: Path | int, *, work: Path = WORK) -> Iterator[bytes]:
    """The content of a compressed image in pieces (of another: itself)."""
    return _run(file, {"task": "unpack"}, SLOW, None, work)


@contextmanager
def _opened(file: Path | int) -> Iterator[tuple[int, int]]:
    """A descriptor for reading, with an offset of its own, and the size."""
    path = f"/proc/self/fd/{file}" if isinstance(file, int) else file
    try:
        # Non-blocking: a named pipe would wait for someone to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadImage(f"The image cannot be opened: {error.strerror}.") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise BadImage("The image is neither a file nor a block device.")
        yield descriptor, os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _run(
    file: Path | int,
    order: dict[str, str | int],
    seconds: float,
    deadline: float | None,
    work: Path,
) -> Iterator[bytes]:
    """What the worker writes. deadline: for all of it; without one, `seconds` for each piece."""
    with _opened(file) as (image, size), tempfile.TemporaryFile(dir=work) as scratch:
        order |= {
            "image": image,
            "size": size,
            "scratch": scratch.fileno(),
            "seconds": max(1, round(seconds)),
        }
        with subprocess.Popen(
            [sys.executable, "-I", "-c", _START, str(_ROOT), json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(image, scratch.fileno()),
            cwd="/",
            env={"LC_ALL": "C.UTF-8"},
            bufsize=0,
        ) as worker:
            try:
                out = cast(IO[bytes], worker.stdout)
                while piece := _read(out, deadline or time.monotonic() + seconds, seconds):
                    yield piece
                status = worker.wait(timeout=seconds)
                said = os.read(cast(IO[bytes], worker.stderr).fileno(), MAX_SENTENCE)
                _judge(status, said, seconds)
            except subprocess.TimeoutExpired:
                raise BadImage(_too_long(seconds)) from None
            finally:
                worker.kill()


def _read(out: IO[bytes], deadline: float, seconds: float) -> bytes:
    ready, _, _ = select.select([out], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        raise BadImage(_too_long(seconds))
    return os.read(out.fileno(), CHUNK)


def _judge(status: int, said: bytes, seconds: float) -> None:
    """BadImage with the reason if the worker did not end well."""
    if status == 0:
        return
    if status == -signal.SIGXCPU:
        raise BadImage(_too_long(seconds))
    if status == -signal.SIGKILL:
        raise BadImage("The inspection of the image was killed: the machine may lack memory.")
    try:
        answer = json.loads(said)
        refusal = BadImage(str(answer["error"]), str(answer["mend"]))
    except (ValueError, KeyError, TypeError):
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        refusal = BadImage(f"The inspection of the image ended with {how}. {last}".rstrip())
    raise refusal


def _too_long(seconds: float) -> str:
    return f"The image takes longer to read than the {seconds:g} seconds that it is given."
