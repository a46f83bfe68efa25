"""Download an image, and prove that it is the publisher's before it gets its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import requests

from dozencloud.errors import Problem
from dozencloud.images.catalogue import resolve, signature, sums, web
from dozencloud.images.catalogue.entries import Choice

_ENDING = re.compile(r"(\.(?:qcow2|img|raw|tar))?(\.(?:xz|gz|zst|bz2))?$")


@dataclass(frozen=True)
class Fetched:
    """A proved image. checksum: ALGORITHM:DIGITS. verified_by: what the proof rests on."""

    path: Path
    url: str
    checksum: str
    verified_by: str


@dataclass(frozen=True)
class _Proof:
    """digest: the sum to have; empty where a detached signature of the image decides."""

    by: str
    digest: str = ""
    signature: Path | None = None


def fetch(
    choice: Choice,
    folder: Path,
    *,
    mirrors: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> Fetched:
    """The chosen file in `folder`; at once if it is there and still what the publisher has.

    mirrors: base addresses by the name of a source, instead of the catalogue's: in cloud.toml,

        [image]
        mirrors = ["ubuntu=http://10.0.0.1/ubuntu-cloud-images"]

    The layout below the base is the publisher's; see `mirror` in catalogue.toml. Sums and
    signatures come from the mirror too: signatures prove as much as from the publisher, bare sums
    only as much as the mirror is trusted.

    progress: called with the bytes that are there and that there will be (0: not known).

    Everything that goes wrong is a Problem. What was downloaded until then stays as NAME.part, and
    the next call goes on with it.
    """
    source = choice.entry.source
    if choice.file.key:
        signature.require(choice.file.key, choice.entry.title)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one."
        ) from error
    with web.session() as session, TemporaryDirectory(prefix="dozen-image-") as work:
        mirror = mirrors.get(source.name, source.mirror).rstrip("/")
        target = resolve.target(session, choice, mirror)
        proof = _proof(session, choice, target, Path(work))
        path = folder / file_name(choice, target.name)
        found = _proved(choice, path, proof, progress) if path.exists() else None
        if found is None:
            part = path.with_name(f"{path.name}.part")
            with web.unfinished(part) as file:
                web.download(session, target.url, file, part, proof.digest, progress)
                found = _prove(choice, part, target, proof)
                web.keep(part, path)
        checksum, by = found
        return Fetched(path, web.public(target.url), checksum, by)


def file_name(choice: Choice, theirs: str) -> str:
    """What the file is called here: the same whichever build it is. theirs: its published name."""
    ending = _ENDING.search(theirs)
    return f"{choice.entry.name}-{choice.arch}-{choice.file.kind}{ending[0] if ending else ''}"


def _proof(session: requests.Session, choice: Choice, target: resolve.Target, work: Path) -> _Proof:
    """What the publisher says of the file."""
    file = choice.file
    if target.digest:
        return _Proof(_unsigned(choice, "index", target.url, target.digest), target.digest)
    places = {"url": target.url, "folder": target.folder, "file": target.name}
    signed = work / "signature"
    if file.signature:
        signed.write_bytes(web.text(session, choice.render(file.signature, **places)))
    if not file.sums:
        return _Proof("", signature=signed)

    url = resolve.newest(session, choice.render(file.sums, **places))
    name = url.rpartition("/")[2]
    theirs = work / "sums"
    theirs.write_bytes(web.text(session, url))
    signer = ""
    if file.key and file.clearsigned:
        plain = work / "plain"
        signer = signature.open_clearsigned(file.key, name, theirs, plain)
        theirs = plain
    elif file.key:
        signer = signature.check(file.key, name, theirs, signed)
    text = theirs.read_text(errors="replace")
    digest = sums.pick(text, target.name, alone=file.sums.startswith("{url}"))
    if not digest:
        raise Problem(
            f"{name} at {web.host(url)} has no SHA-256 or SHA-512 sum of {target.name}.",
            "The publisher may be changing it just now: try again in an hour, or another mirror.",
        )
    if signer:
        return _Proof(f"{_algorithm(digest)} sum in {name}, signed by {signer}", digest)
    return _Proof(_unsigned(choice, name, url, digest), digest)


def _unsigned(choice: Choice, name: str, url: str, digest: str) -> str:
    way = "HTTPS" if url.startswith("https:") else "plain HTTP, which anyone between can change"
    return (
        f"{_algorithm(digest)} sum in {name} from {web.host(url)} over {way}; "
        f"no signature was checked: {choice.file.unsigned}"
    )


def _algorithm(digest: str) -> str:
    return digest.partition(":")[0].upper().replace("SHA", "SHA-")


def _proved(
    choice: Choice, path: Path, proof: _Proof, progress: Callable[[int, int], None]
) -> tuple[str, str] | None:
    """Sum and proof of a file that was fetched earlier; None if the publisher has another now."""
    if proof.digest:
        checksum = sums.of_file(path, proof.digest.partition(":")[0], progress)
        return (checksum, proof.by) if checksum == proof.digest else None
    try:
        return _signed(choice, path, proof)
    except Problem:
        return None


def _prove(choice: Choice, part: Path, target: resolve.Target, proof: _Proof) -> tuple[str, str]:
    """Sum and proof of a file that was just downloaded; it is removed if it is not proved."""
    if not proof.digest:
        try:
            return _signed(choice, part, proof)
        except Problem:
            web.forget(part)
            raise
    checksum = sums.of_file(part, proof.digest.partition(":")[0])
    if checksum == proof.digest:
        return checksum, proof.by
    web.forget(part)
    raise Problem(
        f"{target.name} from {web.host(target.url)} is not what the publisher made: "
        f"its sum is {checksum}, published is {proof.digest}.",
        "The download was removed. Try again in an hour (the publisher may be replacing it just "
        "now); if it stays so, set another mirror for it in cloud.toml.",
    )


def _signed(choice: Choice, path: Path, proof: _Proof) -> tuple[str, str]:
    assert choice.file.key and proof.signature  # noqa: S101  (checked when the catalogue is loaded)
    signer = signature.check(choice.file.key, choice.entry.title, path, proof.signature)
    return sums.of_file(path, "sha256"), f"signature of the image by {signer}"


SUMS_BESIDE = ("{file}.sha256", "{file}.sha512", "SHA256SUMS", "SHA512SUMS", "CHECKSUM")
"""Names under which publishers put checksums beside an image."""


def fetch_url(url: str, folder: Path, progress: Callable[[int, int], None]) -> Fetched:
    """An image from an address that is in no catalogue, in `folder`.

    Checked against a checksum that stands beside it, where there is one. Goes on with what an
    earlier call left; everything that goes wrong is a Problem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.+-]", "_", unquote(urlsplit(url).path).rpartition("/")[2]) or "image"
    path = folder / name
    with web.session() as session:
        digest, where = _sum_beside(session, url)
        part = path.with_name(f"{name}.part")
        with web.unfinished(part) as file:
            web.download(session, url, file, part, digest, progress)
            if digest:
                checksum = sums.of_file(part, digest.partition(":")[0])
                if checksum != digest:
                    web.forget(part)
                    raise Problem(
                        f"{name} from {web.host(url)} is not what was published: its sum is "
                        f"{checksum}, in {where} stands {digest}.",
                        "The download was removed. Try again in an hour, or ask the publisher.",
                    )
            web.keep(part, path)
    by = f"{_algorithm(digest)} sum in {where}" if digest else "nothing: no checksum stands beside"
    return Fetched(path, web.public(url), digest, by)


def _sum_beside(session: requests.Session, url: str) -> tuple[str, str]:
    """The sum of the file at `url` and the name of the file that says it; empty if none does."""
    folder, _, file = url.partition("?")[0].rpartition("/")
    for template in SUMS_BESIDE:
        name = template.format(file=file)
        try:
            text = web.text(session, f"{folder}/{name}").decode(errors="replace")
        except Problem:
            continue
        if digest := sums.pick(text, unquote(file), alone="{file}" in template):
            return digest, name
    return "", ""
