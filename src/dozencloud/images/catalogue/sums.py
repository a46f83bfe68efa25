"""Files of checksums, as publishers write them, and the sum of a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20

_GNU = re.compile(r"\\?([0-9A-Fa-f]+) [ *]?(.+)")
"""sha256sum(1): sum, space, mode, name."""
_BSD = re.compile(r"(SHA256|SHA512) ?\((.+)\) ?= ?([0-9A-Fa-f]+)")
"""sha256sum --tag, and BSD's sha256(1)."""
_BARE = re.compile(r"([0-9A-Fa-f]+)")

_ALGORITHMS = {64: "sha256", 128: "sha512"}
"""By the number of hexadecimal digits. MD5 and SHA-1 are left out: they prove nothing."""


def pick(text: str, name: str, *, alone: bool = False) -> str:
    """The sum of `name` as ALGORITHM:DIGITS; empty if there is none. SHA-512 before SHA-256.

    alone: the file is about this one image, so its only sum counts whatever name stands beside it
    (openSUSE names the build there, Alpine nothing at all).
    """
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        line = line.strip()
        if match := _BSD.fullmatch(line):
            theirs, digits = match[2], match[3]
        elif match := _GNU.fullmatch(line):
            digits, theirs = match[1], match[2].strip()
        elif match := _BARE.fullmatch(line):
            digits, theirs = match[1], ""
        else:
            continue
        if algorithm := _ALGORITHMS.get(len(digits)):
            found.append((theirs.removeprefix("./"), f"{algorithm}:{digits.lower()}"))
    named = {digest for theirs, digest in found if theirs == name}
    if not named and alone:
        named = {digest for _, digest in found}
    strongest = max((digest.partition(":")[0] for digest in named), default="")
    # Two different sums for one name prove neither.
    best = {digest for digest in named if digest.startswith(strongest)}
    return best.pop() if len(best) == 1 else ""


def of_file(
    path: Path, algorithm: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> str:
    """The sum of a file as ALGORITHM:DIGITS."""
    total, done = path.stat().st_size, 0
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(done, total)
    return f"{algorithm}:{digest.hexdigest()}"
