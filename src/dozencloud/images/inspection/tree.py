"""Files of an image as a tree, whatever holds them: a file system, an archive, a dictionary."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

MAX_LINKS = 40
"""Symbolic links in one path, as Linux allows (path_resolution(7))."""
MAX_ENTRIES = 10_000
"""Directory entries that one listing gives."""


class BadImage(Exception):
    """The image cannot be read; the message is a sentence for the person.

    mend: what to do then; FILE in it stands for the image's name.
    """

    def __init__(self, sentence: str, mend: str = "Get the image again.") -> None:
        super().__init__(sentence)
        self.mend = mend


@dataclass(frozen=True)
class Node:
    """One file. mode: with its type, as in stat(2). target: of a symbolic link."""

    mode: int
    size: int = 0
    target: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Store(Protocol):
    """What a file system reader offers. Paths: relative to its root, no links followed."""

    kind: str
    label: str
    uuid: str

    def node(self, path: str) -> Node | None:
        """The file at `path` ("" is the root); None if there is none."""

    def names(self, path: str) -> Iterator[str]:
        """Names in the directory at `path`, without "." and ".."."""

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of the regular file at `path`; fewer at its end."""


class Readable:
    """What can be read of a store: the rest counts as not there.

    troubles: why, in sentences, by path.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kind, self.label, self.uuid = store.kind, store.label, store.uuid
        self.troubles: dict[str, str] = {}

    def node(self, path: str) -> Node | None:
        return self._tried(path, lambda: self._store.node(path), None)

    def names(self, path: str) -> Iterator[str]:
        return self._tried(path, lambda: self._store.names(path), iter(()))

    def read(self, path: str, offset: int, length: int) -> bytes:
        return self._tried(path, lambda: self._store.read(path, offset, length), b"")

    def _tried(self, path: str, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except BadImage as error:
            self.troubles.setdefault(path, str(error))
            return otherwise


class Tree:
    """A store with symbolic links resolved inside it: none leads out, and none leads in circles."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def resolve(self, path: str) -> str | None:
        """The path without links; None if nothing is there."""
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done[-1:] = []
                continue
            here = "/".join((*done, part))
            node = self.store.node(here)
            if node is None:
                return None
            if not node.is_link:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                return None
            if node.target.startswith("/"):
                done = []
            todo += [p for p in reversed(node.target.split("/")) if p not in ("", ".")]
        return "/".join(done)

    def node(self, path: str) -> Node | None:
        """The file at `path`, links followed."""
        where = self.resolve(path)
        return None if where is None else self.store.node(where)

    def exists(self, path: str) -> bool:
        return self.node(path) is not None

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if it is none. At most MAX_ENTRIES."""
        where = self.resolve(path)
        node = None if where is None else self.store.node(where)
        if where is None or node is None or not node.is_dir:
            return []
        found = []
        for name in self.store.names(where):
            found.append(name)
            if len(found) >= MAX_ENTRIES:
                break
        return sorted(found)

    def read(self, path: str, limit: int, offset: int = 0) -> bytes | None:
        """At most `limit` bytes of the regular file at `path`; None if it is none."""
        where = self.resolve(path)
        node = None if where is None else self.store.node(where)
        if where is None or node is None or not node.is_file:
            return None
        return self.store.read(where, offset, min(limit, max(0, node.size - offset)))

    def text(self, path: str, limit: int = 1 << 20) -> str:
        """A text file; empty if there is none."""
        return (self.read(path, limit) or b"").decode("utf-8", "replace")


class Files:
    """A store made of a dictionary: for archives, and for tests.

    files: contents by path; a str is the target of a symbolic link, None a directory.
    """

    def __init__(
        self, files: dict[str, bytes | str | None], kind: str = "", label: str = "", uuid: str = ""
    ) -> None:
        self.kind, self.label, self.uuid = kind, label, uuid
        self._content = files
        self._children: dict[str, set[str]] = {"": set()}
        for path in files:
            child = path
            while child:
                parent, _, name = child.rpartition("/")
                self._children.setdefault(parent, set()).add(name)
                child = parent
            if files[path] is None:
                self._children.setdefault(path, set())

    def node(self, path: str) -> Node | None:
        if path in self._children:
            return Node(stat.S_IFDIR | 0o755)
        content = self._content.get(path)
        if content is None:
            return None
        if isinstance(content, str):
            return Node(stat.S_IFLNK | 0o777, target=content)
        return Node(stat.S_IFREG | 0o644, len(content))

    def names(self, path: str) -> Iterator[str]:
        yield from self._children.get(path, ())

    def read(self, path: str, offset: int, length: int) -> bytes:
        content = self._content[path]
        assert isinstance(content, bytes)  # noqa: S101  (the protocol: only regular files)
        return content[offset : offset + length]
