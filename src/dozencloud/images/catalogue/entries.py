"""The catalogue's data: what images there are, and how each is found and proved.

`catalogue.toml` describes its own format. Everything is checked when it is loaded, so that the rest
of this package needs no checks.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dozencloud.errors import Exit, Problem
from dozencloud.images.inspection.model import Arch, Boot

CATALOGUE = Path(__file__).parent / "catalogue.toml"
KEYS = Path(__file__).parent / "keys"

_FIELD = re.compile(r"\{([a-z]+)\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")

E = TypeVar("E", bound=StrEnum)


class Kind(StrEnum):
    """What a file is for."""

    VM = "vm"
    CONTAINER = "container"
    KERNEL = "kernel"
    INITRD = "initrd"


@dataclass(frozen=True)
class Source:
    """A publisher. mirror: its base address, without a slash at the end."""

    name: str
    title: str
    mirror: str


@dataclass(frozen=True)
class Key:
    """Whose signature counts. fingerprints: of primary keys. get: how a person gets `file`."""

    name: str
    fingerprints: tuple[str, ...]
    file: Path
    get: str = ""


@dataclass(frozen=True)
class Product:
    """Where in a simplestreams index the file is: the product's name (a template) and the item."""

    name: str
    item: str


@dataclass(frozen=True)
class File:
    """One kind of file of an image, for some architectures. url, sums, signature: templates.

    arch: the publisher's names by Nova's. memory: MiB. unsigned: why no signature is checked.
    """

    kind: Kind
    boot: Boot
    arch: Mapping[Arch, str]
    url: str
    memory: int
    sums: str = ""
    signature: str = ""
    clearsigned: bool = False
    key: Key | None = None
    product: Product | None = None
    unsigned: str = ""


@dataclass(frozen=True)
class Entry:
    """An image by its name, as `ubuntu-24.04`. user: who logs in. values: for the templates."""

    name: str
    title: str
    source: Source
    user: str
    files: tuple[File, ...]
    values: Mapping[str, str]

    @property
    def architectures(self) -> tuple[Arch, ...]:
        return tuple(dict.fromkeys(arch for file in self.files for arch in file.arch))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(file.kind for file in self.files))


@dataclass(frozen=True)
class Choice:
    """One file of an image for one architecture."""

    entry: Entry
    file: File
    arch: Arch

    def render(self, template: str, **more: str) -> str:
        """The template with this choice's values, and `more`, filled in."""
        values = {**self.entry.values, "arch": self.file.arch[self.arch], **more}
        return _FIELD.sub(lambda field: values[field[1]], template)


def load(path: Path = CATALOGUE) -> tuple[Entry, ...]:
    """All images of the catalogue; a Problem that names the place if it has a mistake."""
    try:
        return _Reader(path.name, tomllib.loads(path.read_text())).entries()
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Problem(
            f"The image catalogue {path} cannot be read: {error}.",
            "Install DozenCloud again, or undo the last change of that file.",
        ) from error


def available(
    entries: Iterable[Entry], arch: Arch | None = None, kind: Kind | None = None
) -> tuple[Entry, ...]:
    """The images that have a file for this architecture and of this kind, in their order."""
    return tuple(
        entry
        for entry in entries
        if any(
            (arch is None or arch in file.arch) and (kind is None or kind == file.kind)
            for file in entry.files
        )
    )


def find(entries: Iterable[Entry], name: str, arch: Arch, kind: Kind = Kind.VM) -> Choice:
    """The file to fetch; a Problem that names what there is instead."""
    by_name = {entry.name: entry for entry in entries}
    entry = by_name.get(name.lower())
    if entry is None:
        near = difflib.get_close_matches(name.lower(), by_name, n=3)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise Problem(
            f"There is no image {name} in the catalogue.",
            f"{hint}See `dozen image list --available`.",
            code=Exit.USAGE,
        )
    for file in entry.files:
        if file.kind == kind and arch in file.arch:
            return Choice(entry, file, arch)
    offers = ", ".join(f"{file.kind} for {' and '.join(file.arch)}" for file in entry.files)
    raise Problem(
        f"{entry.title} is not published as {kind} for {arch}.",
        f"There is: {offers}.",
        code=Exit.USAGE,
    )


def check_mirrors(entries: Iterable[Entry], mirrors: Mapping[str, str]) -> None:
    """A Problem if a mirror is of an unknown source or no web address (see `fetch`)."""
    known = {entry.source.name for entry in entries}
    for name, mirror in mirrors.items():
        if name not in known:
            raise Problem(
                f"There is no image source {name} to have a mirror.",
                f"The sources are {', '.join(sorted(known))}.",
                code=Exit.USAGE,
            )
        if not _is_web(mirror):
            raise Problem(
                f"The mirror {mirror!r} of {name} is no web address.",
                "Write it as https://HOST/PATH.",
                code=Exit.USAGE,
            )


def _is_web(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class _Reader:
    """Turns the parsed file into entries; every mistake is a Problem with its place."""

    def __init__(self, name: str, data: Mapping[str, Any]) -> None:
        self.name = name
        self.data = data

    def entries(self) -> tuple[Entry, ...]:
        self._only("top level", self.data, "source", "key", "layout", "image")
        images = self.data.get("image", [])
        found: dict[str, Entry] = {}
        for number, image in enumerate(images, 1):
            place = f"image {image.get('name', f'number {number}')}"
            entry = self._entry(place, image)
            if entry.name in found:
                raise self._wrong(place, "the name is there twice")
            found[entry.name] = entry
        return tuple(found.values())

    def _entry(self, place: str, image: Mapping[str, Any]) -> Entry:
        self._only(place, image, "name", "title", "source", "user", "layouts", "values", "arch")
        name = self._text(place, image, "name")
        if not _NAME.fullmatch(name):
            raise self._wrong(place, "a name has small letters, digits, dots and dashes only")
        values = self._texts(place, image, "values")
        only = self._list(place, image, "arch") if "arch" in image else list(Arch)
        files = tuple(
            self._file(f"{place}, layout {layout}", layout, values, only)
            for layout in self._list(place, image, "layouts")
        )
        title, user = self._text(place, image, "title"), self._text(place, image, "user")
        entry = Entry(name, title, self._source(place, image), user, files, values)
        for file in files:
            for arch in file.arch:
                self._try_templates(place, Choice(entry, file, arch))
        seen = [(file.kind, arch) for file in files for arch in file.arch]
        if len(set(seen)) < len(seen):
            raise self._wrong(place, "two layouts offer the same kind for the same architecture")
        return entry

    def _source(self, place: str, image: Mapping[str, Any]) -> Source:
        name = self._text(place, image, "source")
        table = self._table(place, "source", name)
        place = f"source {name}"
        self._only(place, table, "title", "mirror")
        mirror = self._text(place, table, "mirror")
        if not _is_web(mirror) or mirror.endswith("/"):
            raise self._wrong(
                place, "mirror must be http(s)://HOST/PATH without a slash at the end"
            )
        return Source(name, self._text(place, table, "title"), mirror)

    def _file(
        self, place: str, layout: str, values: Mapping[str, str], only: Sequence[str]
    ) -> File:
        table = self._table(place, "layout", layout)
        self._only(place, table, *File.__dataclass_fields__)
        theirs = self._texts(place, table, "arch")
        arch = {self._member(place, Arch, ours): theirs[ours] for ours in theirs}
        arch = {ours: arch[ours] for ours in arch if ours in only}
        if not arch:
            raise self._wrong(place, "no architecture is left")
        memory = table.get("memory")
        if not isinstance(memory, int) or memory <= 0:
            raise self._wrong(place, "memory must be a number of MiB")
        product = self._texts(place, table, "product")
        if product and set(product) != {"name", "item"}:
            raise self._wrong(place, "a product has a name and an item")
        file = File(
            kind=self._member(place, Kind, table.get("kind")),
            boot=self._member(place, Boot, table.get("boot")),
            arch=arch,
            url=self._text(place, table, "url"),
            memory=memory,
            sums=self._text(place, table, "sums", ""),
            signature=self._text(place, table, "signature", ""),
            clearsigned=table.get("clearsigned") is True,
            key=self._key(place, table, values),
            product=Product(**product) if product else None,
            unsigned=self._text(place, table, "unsigned", ""),
        )
        self._check_proof(place, file)
        return file

    def _check_proof(self, place: str, file: File) -> None:
        signed = bool(file.signature) or file.clearsigned
        if signed != (file.key is not None):
            raise self._wrong(place, "signature or clearsigned, and key, need each other")
        if signed == bool(file.unsigned):
            raise self._wrong(place, "either a signature is checked, or unsigned says why not")
        if file.signature and file.clearsigned:
            raise self._wrong(place, "signature and clearsigned exclude each other")
        if file.clearsigned and not file.sums:
            raise self._wrong(place, "clearsigned is about sums, and there are none")
        if file.product and (file.sums or signed):
            raise self._wrong(place, "a product brings its sum; sums and signature have no place")
        if not (file.product or file.sums or file.signature):
            raise self._wrong(place, "nothing proves the file: give sums, a signature or a product")

    def _key(self, place: str, table: Mapping[str, Any], values: Mapping[str, str]) -> Key | None:
        template = table.get("key")
        if template is None:
            return None
        name = _FIELD.sub(lambda field: values.get(field[1], field[0]), template)
        key = self._table(place, "key", name)
        place = f"key {name}"
        self._only(place, key, "fingerprints", "file", "get")
        fingerprints = self._list(place, key, "fingerprints")
        if not all(_FINGERPRINT.fullmatch(each) for each in fingerprints):
            raise self._wrong(place, "a fingerprint is 40 hexadecimal digits in capitals")
        file = KEYS / self._text(place, key, "file")
        if not file.is_relative_to(KEYS) and not key.get("get"):
            raise self._wrong(place, "a key that is not shipped needs get: how to get it")
        return Key(name, tuple(fingerprints), file, key.get("get", ""))

    def _try_templates(self, place: str, choice: Choice) -> None:
        file = choice.file
        for template in (file.url, file.sums, file.signature, file.product and file.product.name):
            try:
                text = choice.render(
                    template or "", mirror=choice.entry.source.mirror, url="u", folder="f", file="n"
                )
                for pattern in re.findall(r"<([^<>]*)>", text):
                    re.compile(pattern)
            except KeyError as error:
                raise self._wrong(place, f"{template} needs a value for {error}") from error
            except re.error as error:
                raise self._wrong(place, f"{template} has a bad pattern: {error}") from error

    def _table(self, place: str, kind: str, name: str) -> Mapping[str, Any]:
        table = self.data.get(kind, {}).get(name)
        if not isinstance(table, dict):
            raise self._wrong(place, f"there is no [{kind}.{name}]")
        return table

    def _only(self, place: str, table: Mapping[str, Any], *known: str) -> None:
        for name in table:
            if name not in known:
                raise self._wrong(place, f"nothing is called {name}")

    def _text(
        self, place: str, table: Mapping[str, Any], name: str, default: str | None = None
    ) -> str:
        value = table.get(name, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self._wrong(place, f"{name} must be a text")
        return value

    def _texts(self, place: str, table: Mapping[str, Any], name: str) -> dict[str, str]:
        value = table.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self._wrong(place, f"{name} must be a table of texts")
        return value

    def _list(self, place: str, table: Mapping[str, Any], name: str) -> list[str]:
        value = table.get(name)
        if not value or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self._wrong(place, f"{name} must be a list of texts")
        return value

    def _member(self, place: str, kind: type[E], value: Any) -> E:
        try:
            return kind(value)
        except ValueError as error:
            raise self._wrong(place, f"{value} is none of {', '.join(kind)}") from error

    def _wrong(self, place: str, what: str) -> Problem:
        return Problem(
            f"The image catalogue {self.name} has a mistake at {place}: {what}.",
            "Undo the last change of that file, or mend that line.",
        )
