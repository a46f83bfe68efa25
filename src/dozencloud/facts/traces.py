"""What is left of a cloud: processes, interfaces, namespaces, tables, directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dozencloud.facts.processes import PROC, ancestors, pids
from dozencloud.facts.run import ask

_COMMAND_SHOWN = 120  # characters


@dataclass(frozen=True)
class Markers:
    """How to recognise a cloud.

    words: strings that its processes carry in their command line or environment; best is the
        run directory, or a variable set for it alone. What a person may export in a shell (the
        path of clouds.yaml) is no good marker: every program of that shell would carry it.
    interfaces, namespaces: names, or patterns such as "dz0-*".
    tables: nft tables, "family name" ("inet dozencloud").
    directories: paths that belong to the cloud alone.
    """

    words: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Trace:
    """One process that carries a marker."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


@dataclass(frozen=True)
class Traces:
    """What was found."""

    processes: tuple[Trace, ...] = ()
    interfaces: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()

    @property
    def empty(self) -> bool:
        return not (
            self.processes or self.interfaces or self.namespaces or self.tables or self.directories
        )

    def lines(self) -> list[str]:
        """One line for each thing, for a person."""
        return [
            *(f"process {process}" for process in self.processes),
            *(f"interface {interface}" for interface in self.interfaces),
            *(f"network namespace {namespace}" for namespace in self.namespaces),
            *(f"nft table {table}" for table in self.tables),
            *(f"directory {directory}" for directory in self.directories),
        ]


def carries(text: str, word: str) -> bool:
    """Whether `text` holds `word` as a whole: "/run/a" is in "unix:/run/a/x", not in "/run/ab".

    A word that ends a longer path ("/srv/run/a") or begins a longer name ("/run/a-b",
    "/run/a.bak") is another thing.
    """
    return bool(re.search(rf"(?<![\w./-]){re.escape(word.rstrip('/'))}(?![\w-]|\.\w)", text))


def find_traces(markers: Markers) -> Traces:
    """Look for `markers` on this machine; the caller and its ancestors are never among them."""
    return Traces(
        processes=tuple(_processes(markers.words)),
        interfaces=_matching(_names(Path("/sys/class/net")), markers.interfaces),
        namespaces=_matching(_names(Path("/run/netns")), markers.namespaces),
        tables=_matching(_nft_tables(), markers.tables) if markers.tables else (),
        directories=tuple(path for path in markers.directories if os.path.lexists(path)),
    )


def parse_nft_tables(text: str) -> tuple[str, ...]:
    """ "table inet a" lines of `nft list tables` → "inet a"."""
    return tuple(re.findall(r"^table (\S+ \S+)", text, re.M))


def _processes(words: Iterable[str]) -> Iterable[Trace]:
    words = tuple(words)
    spared = ancestors(os.getpid())
    for pid in sorted(pids()):
        if pid in spared:
            continue
        command = _strings(PROC / str(pid) / "cmdline")
        texts = (*command, *_strings(PROC / str(pid) / "environ"))
        if any(carries(text, word) for word in words for text in texts if word in text):
            shown = " ".join(command)
            if len(shown) > _COMMAND_SHOWN:
                shown = shown[: _COMMAND_SHOWN - 1] + "…"
            yield Trace(pid, shown)


def _strings(path: Path) -> tuple[str, ...]:
    """The strings of a file in which zero bytes part them; none if the process is gone."""
    try:
        content = path.read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in content.split(b"\0") if part)


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder)))
    except OSError:
        return ()


def _nft_tables() -> tuple[str, ...]:
    return parse_nft_tables(ask("nft", "list", "tables").output)


def _matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(patterns)
    return tuple(name for name in names if any(fnmatchcase(name, each) for each in patterns))
