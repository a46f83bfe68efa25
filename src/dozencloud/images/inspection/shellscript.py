"""startup.nsh: what the firmware's own shell starts where firmware finds no loader.

UEFI Shell specification 2.2, 3.3 (start), 4 (scripts). A script is not run: the first EFI program
that a line of it calls counts.
"""

from __future__ import annotations

import codecs
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dozencloud.images.inspection import artefacts
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

SCRIPT = "startup.nsh"
LIMIT = 64 << 10
MAX_LINES = 1000
MAX_SCRIPTS = 3
"""A script may call another one."""
MAPPING = re.compile(r"[^:\\/]+:")
"""FS0: or %a: before a path; which disk that is, only the shell knows."""
WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')


@dataclass(frozen=True)
class Call:
    """An EFI program and what it is called with."""

    path: str
    arguments: tuple[str, ...] = ()


def first_call(tree: Tree, script: str = SCRIPT, depth: int = MAX_SCRIPTS) -> Call | None:
    """What the script starts; None if there is none, or it starts nothing that is here."""
    folder = posixpath.dirname(script)
    for words in _commands(tree.read(script, LIMIT) or b""):
        if words[0].lower() == "cd" and len(words) > 1:
            folder = _path(words[1], folder)
            continue
        for path in _places(words[0], folder):
            if path.lower().endswith(".nsh"):
                nested = first_call(tree, path, depth - 1) if depth > 1 else None
                if nested is not None:
                    return nested
            elif _is_program(tree, path):
                return Call(path, tuple(words[1:]))
    return None


def _commands(data: bytes) -> Iterator[list[str]]:
    wide = data.startswith(codecs.BOM_UTF16_LE)
    text = data.decode("utf-16-le" if wide else "utf-8", "replace").lstrip("\ufeff")
    for line in text.splitlines()[:MAX_LINES]:
        plain = re.split(r"(?<!\^)#", line)[0].strip().lstrip("@")
        words = [word.replace('"', "") for word in WORD.findall(plain)]
        if words and words[0]:
            yield words


def _places(word: str, folder: str) -> Iterator[str]:
    """Where the command may lie: the shell adds .efi, and looks in the search path too."""
    for base in dict.fromkeys((folder, "", "efi/boot")):
        path = _path(word, base)
        if path:
            yield path
            yield f"{path}.efi"


def _path(word: str, folder: str) -> str:
    word = MAPPING.sub("", word, count=1).replace("\\", "/")
    joined = word if word.startswith("/") else f"{folder}/{word}"
    return posixpath.normpath(f"/{joined}").lstrip("/")


def _is_program(tree: Tree, path: str) -> bool:
    blob = Blob.of_path(tree, path)
    return blob is not None and artefacts.efi_program(blob.read(0, artefacts.HEAD)) is not None
