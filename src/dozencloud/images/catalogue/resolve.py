"""From a template to the address of today's file: listings of folders, and simplestreams."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests

from dozencloud.errors import Problem
from dozencloud.images.catalogue import web
from dozencloud.images.catalogue.entries import Choice, Product

_PATTERN = re.compile(r"<([^<>]+)>")
_OUTDATED = (
    "The publisher may have moved it. See if a newer DozenCloud knows the new place, "
    "or set another mirror for it in cloud.toml."
)


@dataclass(frozen=True)
class Target:
    """Where the file is today. digest: its sum if the index says it, else empty."""

    url: str
    digest: str = ""

    @property
    def folder(self) -> str:
        return self.url.rpartition("/")[0]

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


def target(session: requests.Session, choice: Choice, mirror: str) -> Target:
    """Where the chosen file is."""
    url = newest(session, choice.render(choice.file.url, mirror=mirror))
    if choice.file.product:
        return _of_product(session, choice, url, choice.file.product, mirror)
    return Target(url)


def newest(session: requests.Session, url: str) -> str:
    """`url` with every part that has a <pattern> replaced by the newest name that matches it."""
    parts = url.split("/")
    for number, part in enumerate(parts):
        if not _PATTERN.search(part):
            continue
        pieces = _PATTERN.split(part)
        pieces[0::2] = [re.escape(piece) for piece in pieces[0::2]]
        folder = "/".join(parts[:number]) + "/"
        matching = [n for n in _listing(session, folder) if re.fullmatch("".join(pieces), n)]
        if not matching:
            raise Problem(
                f"{web.host(url)} has nothing like {_PATTERN.sub('*', part)} "
                f"in {urlsplit(folder).path}.",
                _OUTDATED,
            )
        parts[number] = quote(max(matching, key=_age), safe=":+~")
    return "/".join(parts)


def _age(name: str) -> list[str | int]:
    """Sorts 1.10 after 1.9. The odd pieces of such a split are the numbers, in every name."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"([0-9]+)", name)]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag == "a" and name == "href" and value:
                path = urlsplit(value).path.rstrip("/")
                self.names.append(unquote(path.rpartition("/")[2]))


def _listing(session: requests.Session, folder: str) -> list[str]:
    """Names that the index page of a folder links to. Only names: a link leads nowhere else."""
    page = _Links()
    page.feed(web.text(session, folder).decode("utf-8", "replace"))
    return page.names


def _of_product(
    session: requests.Session, choice: Choice, url: str, product: Product, mirror: str
) -> Target:
    name = choice.render(product.name)
    try:
        index = json.loads(web.text(session, url))
        versions: dict[str, Any] = index["products"].get(name, {}).get("versions", {})
        having = [version for version in versions if product.item in versions[version]["items"]]
        if not having:
            raise Problem(f"{web.host(url)} has no image {name} now.", _OUTDATED)
        item = versions[max(having, key=_age)]["items"][product.item]
        path, digest = item["path"], item["sha256"].lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or ".." in path.split("/"):
            raise ValueError(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(
            f"{web.host(url)} has an index of images that cannot be read.", _OUTDATED
        ) from error
    return Target(f"{mirror}/{quote(path.lstrip('/'), safe='/:+~')}", f"sha256:{digest}")
