"""The process that looks into an image. Started by `confine` alone."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from dozencloud.images.inspection import cage
from dozencloud.images.inspection.artefacts import for_qemu, initrd_of
from dozencloud.images.inspection.formats import Opened, open_image
from dozencloud.images.inspection.model import Compression
from dozencloud.images.inspection.streams import Scratch, Source, Spool, compression_of, seam
from dozencloud.images.inspection.tree import BadImage, Tree
from dozencloud.images.inspection.unpack import Blob
from dozencloud.images.inspection.volumes import read_disk

REFUSED = 3
"""Exit status with which standard error holds a sentence."""
CHUNK = 1 << 20
"""Bytes written at a time."""
MAX_EXTRACT = 1 << 30
"""Bytes of a kernel or initrd that is taken out."""

_LATER = (
    "backports.zstd",
    "dissect.btrfs.btrfs",
    "dissect.extfs.extfs",
    "dissect.fat.fat",
    "dissect.hypervisor.disk.qcow2",
    "dissect.squashfs.squashfs",
    "dissect.util.compression",
    "dissect.xfs.xfs",
    "dozencloud.images.inspection.assemble",
    "dozencloud.images.inspection.btrees",
    "dozencloud.images.inspection.clusters",
    "encodings.ascii",
    "encodings.cp437",
    "encodings.latin_1",
    "encodings.utf_16_le",
    "lzma",
    "oslo_utils.imageutils.format_inspector",
)
"""Modules that are imported where they are used: in the cage no file can be opened."""
_BY_MAGIC = {
    b"KDMV": "dissect.hypervisor.disk.vmdk",
    b"vhdx": "dissect.hypervisor.disk.vhdx",
}
"""Readers that few images need."""


def main() -> None:
    """Read the order from the command line, lock this process in, obey, and say what went wrong."""
    logging.disable()  # libraries complain of bad bytes to standard error, where ours is read
    order = json.loads(sys.argv[-1])
    image = cast(BinaryIO, open(order["image"], "rb", buffering=0))  # noqa: SIM115, PTH123
    scratch = Scratch(cast(BinaryIO, open(order["scratch"], "r+b", buffering=0)))  # noqa: SIM115, PTH123
    out = cast(BinaryIO, open(1, "wb", buffering=0))  # noqa: SIM115
    _import(os.pread(image.fileno(), 4, 0))
    try:
        cage.confine(order["seconds"])
        for piece in _obey(order, image, scratch):
            _write(out, piece)
    except BadImage as error:
        _refuse(str(error), error.mend)
    except BrokenPipeError:
        os._exit(1)
    except MemoryError:
        _refuse("The image asks for more memory than an inspection may take.")
    except BaseException as error:  # also the panics of compiled libraries
        _refuse(f"The image cannot be read ({type(error).__name__}: {str(error)[:160]}).")
    os._exit(0)


def _import(magic: bytes) -> None:
    for name in (*_LATER, _BY_MAGIC.get(magic, "json")):
        importlib.import_module(name)


def _refuse(sentence: str, mend: str = "Get the image again.") -> None:
    os.write(2, json.dumps({"error": sentence, "mend": mend}).encode())
    os._exit(REFUSED)


def _write(out: BinaryIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[out.write(view) :]


def _obey(order: dict[str, str | int], image: BinaryIO, scratch: Scratch) -> Iterator[bytes]:
    size = int(order["size"])
    match order["task"]:
        case "inspect":
            inspect = importlib.import_module("dozencloud.images.inspection.assemble").inspect
            yield inspect(open_image(image, size, scratch)).to_json().encode()
        case "extract":
            opened = open_image(image, size, scratch)
            where, path = int(order["where"]), str(order["path"])
            form = FORMS.get(str(order["form"]))
            if form is None:
                yield from _extract(opened, where, path)
            else:
                yield from _formed(form, _blob(opened, where, path))
        case "unpack":
            yield from _unpack(image, size, scratch)


FORMS: dict[str, Callable[[Blob], bytes | None]] = {"kernel": for_qemu, "initrd": initrd_of}
"""What makes the file that QEMU is handed; None: it is that already."""


def _formed(form: Callable[[Blob], bytes | None], blob: Blob) -> Iterator[bytes]:
    made = form(blob)
    if made is not None:
        yield made
        return
    for offset in range(0, blob.size, CHUNK):
        yield blob.read(offset, CHUNK)


def _blob(opened: Opened, where: int, path: str) -> Blob:
    if opened.head is not None:
        return Blob.of_file(opened.head)
    blob = Blob.of_path(opened.tree or _volume(opened, where), path)
    if blob is None or blob.size > MAX_EXTRACT:
        raise BadImage(f"The image has no file /{path} of a reasonable size.")
    return blob


def _extract(opened: Opened, where: int, path: str) -> Iterator[bytes]:
    if opened.head is not None:
        yield from _pieces(opened.head)
        return
    tree = opened.tree or _volume(opened, where)
    node = tree.node(path)
    if node is None or not node.is_file:
        raise BadImage(f"The image has no file /{path}.")
    if node.size > MAX_EXTRACT:
        raise BadImage(f"/{path} is too large: {node.size:,} bytes.")
    for offset in range(0, node.size, CHUNK):
        piece = tree.read(path, CHUNK, offset)
        if not piece:
            raise BadImage(f"/{path} ends before it is complete.")
        yield piece


def _volume(opened: Opened, where: int) -> Tree:
    if opened.disk is not None:
        for volume in read_disk(opened.disk, opened.virtual_size).volumes:
            if volume.partition.number == where and volume.tree is not None:
                return volume.tree
    raise BadImage(f"The image has no file system in partition {where}.")


def _unpack(image: BinaryIO, size: int, scratch: Scratch) -> Iterator[bytes]:
    source = cast(BinaryIO, Source(image, size))
    with seam("The image"):
        compression = compression_of(source.read(8))
    source.seek(0)
    if compression is Compression.NONE:
        return _pieces(source)
    return _pieces(cast(BinaryIO, Spool(source, compression, scratch)))


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with seam("The image"):
        stream.seek(0)
        while piece := stream.read(CHUNK):
            yield piece
