"""Archives as trees: a tar of a root file system, and container images made of such layers."""

from __future__ import annotations

import json
import posixpath
import re
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from dissect.util.stream import RangeStream

from dozencloud.images.inspection.model import Arch, Compression
from dozencloud.images.inspection.streams import (
    MAX_READ,
    Cached,
    Scratch,
    Spool,
    compression_of,
    printable,
    seam,
)
from dozencloud.images.inspection.tree import BadImage, Node, Tree

MAX_MEMBERS = 200_000
"""Files of an archive: a server's root has some 40,000, a desktop's 150,000."""
MAX_LAYERS = 128
"""Docker's own limit is 127."""
MAX_JSON = 4 << 20
"""Bytes of an index, manifest or configuration."""
MAX_NESTING = 4
"""Indexes inside of indexes."""
MAX_HEADER = 1 << 20
"""Bytes of one extended header: names and attributes of a file."""
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_Entry = tuple[int, int, str, BinaryIO | None, int]
"""mode, size, target of a link, the stream with the content, offset in it."""

_ARCHS = {
    ("arm64", ""): Arch.AARCH64,
    ("arm", "v6"): Arch.ARMV6,
    ("arm", ""): Arch.ARMV7L,
    ("amd64", ""): Arch.X86_64,
    ("386", ""): Arch.I686,
    ("riscv64", ""): Arch.RISCV64,
    ("ppc64le", ""): Arch.PPC64LE,
    ("s390x", ""): Arch.S390X,
    ("mipsle", ""): Arch.MIPSEL,
}
"""GOARCH names, which container images use; a variant matters for armv6 alone."""


class Archive:
    """A store over the files of one or more archives, of which only the index is in memory."""

    label = ""
    uuid = ""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, _Entry] = {}
        self._children: dict[str, dict[str, None]] = {"": {}}

    @property
    def used(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, *_ in self._entries.values())

    def node(self, path: str) -> Node | None:
        entry = self._entries.get(path)
        if entry is not None:
            return Node(entry[0], entry[1], entry[2])
        return Node(stat.S_IFDIR | 0o755) if path in self._children else None

    def names(self, path: str) -> Iterator[str]:
        return iter(list(self._children.get(path, ())))

    def read(self, path: str, offset: int, length: int) -> bytes:
        _, size, _, stream, start = self._entries[path]
        if stream is None or offset >= size:
            return b""
        with seam(f"The {self.kind} archive"):
            stream.seek(start + offset)
            return stream.read(min(length, size - offset, MAX_READ))

    def add(self, layer: dict[str, _Entry]) -> None:
        """Lay the files of `layer` over those that are there; its whiteouts remove."""
        for path in layer:
            folder, _, name = path.rpartition("/")
            if name == OPAQUE:
                for child in self.names(folder):
                    self._remove(f"{folder}/{child}" if folder else child)
            elif name.startswith(WHITEOUT):
                self._remove(posixpath.join(folder, name.removeprefix(WHITEOUT)))
        for path, entry in layer.items():
            if path.rpartition("/")[2].startswith(WHITEOUT):
                continue
            if not stat.S_ISDIR(entry[0]) and path in self._children:
                self._remove(path)
            self._insert(path, entry)
        if len(self._entries) > MAX_MEMBERS:
            raise BadImage(f"The archive holds more than {MAX_MEMBERS:,} files.")

    def _insert(self, path: str, entry: _Entry) -> None:
        self._entries[path] = entry
        if stat.S_ISDIR(entry[0]):
            self._children.setdefault(path, {})
        while path:
            folder, _, name = path.rpartition("/")
            known = name in self._children.setdefault(folder, {})
            self._children[folder][name] = None
            if known:
                return
            path = folder

    def _remove(self, path: str) -> None:
        todo = [path]
        while todo:
            each = todo.pop()
            self._entries.pop(each, None)
            todo += [f"{each}/{name}" for name in self._children.pop(each, ())]
        folder, _, name = path.rpartition("/")
        self._children.get(folder, {}).pop(name, None)


class _Headers:
    """What the library reads of a tar: headers. An extended one it takes into memory at once.

    What is in the members we read ourselves.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER + tarfile.BLOCKSIZE:
            raise BadImage(f"The tar archive has a header of {size:,} bytes.")
        return self._stream.read(size)


@contextmanager
def _ending_early() -> Iterator[None]:
    """EOFError where the library's words are that the file ends too early."""
    try:
        yield
    except tarfile.ReadError as error:
        if re.search("unexpected end|truncated", str(error)):
            raise EOFError from error
        raise


def index_tar(stream: BinaryIO) -> dict[str, _Entry]:
    """The members of a tar by path."""
    found: dict[str, _Entry] = {}
    with seam("The tar archive"), _ending_early():
        stream.seek(0)
        archive: Any = tarfile.TarFile(fileobj=_Headers(stream), errorlevel=2)  # type: ignore[arg-type]
        count = 0
        while (member := archive.next()) is not None:
            archive.members = []  # it would keep a KiB of each
            count += 1
            if count > MAX_MEMBERS:
                raise BadImage(f"The archive holds more than {MAX_MEMBERS:,} files.")
            path = _clean(member.name)
            if path is not None:
                entry = _entry(member, stream, found)
                if entry is not None:
                    found[path] = entry
        # The library takes whatever is no header for the end.
        stream.seek(archive.offset)
        end = stream.read(tarfile.BLOCKSIZE)
        if len(end) < tarfile.BLOCKSIZE:
            raise EOFError
        if any(end):
            raise BadImage(f"The tar archive is damaged after {count:,} files.")
    return found


_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def _entry(member: tarfile.TarInfo, stream: BinaryIO, found: dict[str, _Entry]) -> _Entry | None:
    mode = member.mode & 0o7777
    if member.islnk():
        return found.get(_clean(member.linkname) or "")
    if member.isreg():
        return stat.S_IFREG | mode, member.size, "", stream, member.offset_data
    kind = _KINDS.get(member.type)
    target = printable(member.linkname) if kind == stat.S_IFLNK else ""
    return None if kind is None else (kind | mode, 0, target, None, 0)


def _clean(name: str) -> str | None:
    """The path without leading `./` or `/`; None for the root itself and for ways out of it."""
    parts = [part for part in printable(name).split("/") if part not in ("", ".")]
    return None if not parts or ".." in parts else "/".join(parts)


def read_archive(stream: BinaryIO, scratch: Scratch) -> tuple[Archive, Arch | None, bool]:
    """The tree of an archive, its architecture if it says one, whether it is a container image."""
    outer = Archive("tar")
    outer.add(index_tar(stream))
    tree = Tree(outer)
    if tree.exists("oci-layout") and tree.exists("index.json"):
        config, layers = _oci(tree)
    elif tree.exists("manifest.json") and (saved := _docker(tree)):
        config, layers = saved
    else:
        return outer, None, False
    if len(layers) > MAX_LAYERS:
        raise BadImage(f"The container image has {len(layers):,} layers.")
    merged = Archive("oci")
    for layer in layers:
        merged.add(index_tar(_layer(outer, layer, scratch)))
    with seam("The container image's configuration"):
        told = _json(tree, config)
        arch, variant = str(told.get("architecture", "")), str(told.get("variant", ""))
    return merged, _ARCHS.get((arch, variant), _ARCHS.get((arch, ""))), True


def _oci(tree: Tree) -> tuple[str, list[str]]:
    """Paths of the configuration and the layers (OCI image layout and manifest)."""
    with seam("The container image's manifest"):
        manifest = _json(tree, "index.json")
        for _ in range(MAX_NESTING):
            if "manifests" not in manifest:
                break
            manifest = _json(tree, _blob(min(manifest["manifests"], key=_foreign)))
        return _blob(manifest["config"]), [_blob(each) for each in manifest["layers"]]


def _foreign(descriptor: dict[str, Any]) -> int:
    """0 for an image for ARM; an image for all, or not said, comes before others."""
    platform = descriptor.get("platform", {})
    order = {"arm64": 0, "arm": 1, None: 2, "unknown": 4}
    return order.get(platform.get("architecture"), 3)


def _blob(descriptor: dict[str, Any]) -> str:
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    return f"blobs/{algorithm}/{digest}"


def _docker(tree: Tree) -> tuple[str, list[str]] | None:
    """The same of `docker save`; None if the manifest is something else."""
    with seam("The container image's manifest"):
        images = _json(tree, "manifest.json", list)
        if not images or "Layers" not in images[0] or "Config" not in images[0]:
            return None
        return str(images[0]["Config"]), [str(each) for each in images[0]["Layers"]]


def _json(tree: Tree, path: str, kind: Callable[..., Any] = dict) -> Any:
    text = tree.read(path, MAX_JSON)
    if text is None:
        raise BadImage(f"The container image lacks its part {path[:100]}.")
    value = json.loads(text)
    if not isinstance(value, cast(type, kind)):
        raise BadImage(f"The container image's {path[:100]} is not what it should be.")
    return value


def _layer(outer: Archive, path: str, scratch: Scratch) -> BinaryIO:
    where = Tree(outer).resolve(path)
    entry = None if where is None else outer._entries.get(where)
    if entry is None or entry[3] is None:
        raise BadImage(f"The container image lacks its layer {path[:100]}.")
    stream = cast(BinaryIO, RangeStream(entry[3], entry[4], entry[1]))
    compression = compression_of(stream.read(8))
    if compression is Compression.NONE:
        return stream
    spool = Spool(stream, compression, scratch)
    return cast(BinaryIO, Cached(cast(BinaryIO, spool), spool.finish().size))
