"""startup.nsh: what the firmware's own shell starts where firmware finds no loader.

UEFI Shell specification 2.2, 3.3 (start), 4 (scripts), 5.3 (commands). A script runs as far as it
can be told here: of a condition that cannot, both sides count.
"""

from __future__ import annotations

import codecs
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dozencloud.images.inspection import artefacts
from dozencloud.images.inspection.model import Arch
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

SCRIPTS = ("EFI/TOOLS/startup.nsh", "EFI/BOOT/startup.nsh", "startup.nsh")
"""In the order of the shell's search path."""
LIMIT = 64 << 10
MAX_LINES = 1000
MAX_STEPS = 1000
"""Lines that are run, of all scripts together."""
MAX_SCRIPTS = 3
"""A script may call another one."""
MAX_VARIABLES = 64
MAX_LINE = 2048
MAX_ROUNDS = 64
MAPPINGS = 4
"""FS0: to FS3: count as there: a server's disk shows few FAT file systems."""
MAPPING = re.compile(r"[^:\\/]+:")
"""FS0: or %a: before a path; which disk that is, only the shell knows."""
NUMBERED = re.compile(r"fs(\d{1,4}):", re.IGNORECASE)
WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')


@dataclass(frozen=True)
class Call:
    """An EFI program and what it is called with."""

    path: str
    arguments: tuple[str, ...] = ()


def first_call(tree: Tree) -> Call | None:
    """What the shell starts by itself; None if there is no script, or it starts nothing here."""
    for script in SCRIPTS:
        if tree.exists(script):
            return _Shell(tree).run(script, MAX_SCRIPTS)
    return None


@dataclass
class _Loop:
    """A loop that runs. begin: its first line."""

    variable: str
    values: list[str]
    begin: int


@dataclass
class _Flow:
    """Where a script is. conditions: of each `if` around, None if it cannot be told."""

    lines: list[str]
    at: int = 0
    loops: list[_Loop] = field(default_factory=list)
    conditions: list[bool | None] = field(default_factory=list)

    @property
    def perhaps(self) -> bool:
        """Whether what runs now may not run."""
        return None in self.conditions

    def skip(self, begin: str, *ends: str) -> str:
        """Go behind the line that ends what began before; the word that did it."""
        depth = 0
        while self.at < len(self.lines):
            word = self.lines[self.at].lower().split(maxsplit=1)[0]
            self.at += 1
            if depth == 0 and word in ends:
                return word
            depth += (word == begin) - (word == f"end{begin}")
        return ""


class _Shell:
    """The shell, with what its scripts set."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folder = ""
        self._variables: dict[str, str] = {}
        self._steps = MAX_STEPS
        self._ended = False

    def run(self, script: str, depth: int) -> Call | None:
        """The first program that a script calls. depth: how many scripts may call each other."""
        before, self._folder = self._folder, self._folder or posixpath.dirname(script)
        flow = _Flow(list(_lines(self._tree.read(script, LIMIT) or b"")))
        while flow.at < len(flow.lines) and not self._ended and self._steps > 0:
            self._steps -= 1
            words = self._words(flow.lines[flow.at], flow)
            flow.at += 1
            if not words or self._controls(words, flow):
                continue
            if words[0].lower() == "exit":
                if flow.perhaps:
                    continue
                self._ended = "/b" not in words
                break
            if (call := self._command(words, flow, depth)) is not None:
                return call
        self._folder = before
        return None

    def _words(self, line: str, flow: _Flow) -> list[str]:
        for name, value in self._variables.items():
            line = line.replace(f"%{name}%", value)[:MAX_LINE]
        for loop in flow.loops:
            line = line.replace(f"%{loop.variable}", loop.values[0])[:MAX_LINE]
        return [word.replace('"', "") for word in WORD.findall(line)]

    def _controls(self, words: list[str], flow: _Flow) -> bool:
        """Whether these are words that say what runs next."""
        command = words[0].lower()
        if command == "if":
            truth = self._truth(words[1:])
            if truth is not False or flow.skip("if", "else", "endif") == "else":
                flow.conditions.append(truth)
        elif command == "else":
            if flow.conditions and flow.conditions[-1]:
                flow.skip("if", "endif")
                flow.conditions.pop()
        elif command == "endif":
            del flow.conditions[-1:]
        elif command == "for":
            values = _values(words)
            if values:
                flow.loops.append(_Loop(words[1].removeprefix("%"), values, flow.at))
            else:
                flow.skip("for", "endfor")
        elif command == "endfor":
            if flow.loops and len(flow.loops[-1].values) > 1:
                del flow.loops[-1].values[0]
                flow.at = flow.loops[-1].begin
            else:
                del flow.loops[-1:]
        elif command == "goto" and len(words) > 1:
            label = f":{words[1]}".lower()
            known = [line.lower() for line in flow.lines]
            if not flow.perhaps and label in known:
                flow.at, flow.loops, flow.conditions = known.index(label), [], []
        else:
            return command.startswith(":")
        return True

    def _truth(self, words: list[str]) -> bool | None:
        if words[-1:] and words[-1].lower() == "then":
            words = words[:-1]
        negated = [word.lower() for word in words[:1]] == ["not"]
        words = words[1:] if negated else words
        truth: bool | None = None
        if len(words) == 2 and words[0].lower() == "exist" and "*" not in words[1]:
            # What is not here may be on another disk.
            there = self._tree.exists(_path(words[1], self._folder)) or None
            truth = there if _is_mapped(words[1]) else False
        elif len(words) == 3 and words[1] == "==":
            truth = words[0] == words[2]
        return truth if truth is None else truth is not negated

    def _command(self, words: list[str], flow: _Flow, depth: int) -> Call | None:
        command = words[0].lower()
        if command == "cd" and len(words) > 1:
            self._folder = _path(words[1], self._folder)
        elif command == "set":
            plain = [word for word in words[1:] if word.lower() not in ("-v", "-d")]
            if plain and len(self._variables) < MAX_VARIABLES:
                self._variables[plain[0]] = " ".join(plain[1:])
        elif command.endswith(":") and MAPPING.fullmatch(command):
            # The shell gives up a script there.
            self._ended = not _is_mapped(command) and not flow.perhaps
            self._folder = ""
        elif _is_mapped(command):
            return self._started(words, depth)
        return None

    def _started(self, words: list[str], depth: int) -> Call | None:
        for path in _places(words[0], self._folder):
            if path.lower().endswith(".nsh"):
                if depth > 1 and self._tree.exists(path):
                    return self.run(path, depth - 1)
            elif _is_program(self._tree, path):
                return Call(path, tuple(words[1:]))
        return None


def _lines(data: bytes) -> Iterator[str]:
    wide = data.startswith(codecs.BOM_UTF16_LE)
    text = data.decode("utf-16-le" if wide else "utf-8", "replace").lstrip("\ufeff")
    for line in text.splitlines()[:MAX_LINES]:
        plain = re.split(r"(?<!\^)#", line)[0].strip().lstrip("@").strip()
        if plain:
            yield plain


def _values(words: Sequence[str]) -> list[str]:
    """What `for %i in a b` and `for %i run (0 9)` go through."""
    how = words[2].lower() if len(words) > 2 else ""
    if how == "in":
        return list(words[3 : 3 + MAX_ROUNDS])
    numbers = [int(one) for one in re.findall(r"-?\d{1,6}", " ".join(words[3:]))]
    if how == "run" and len(numbers) in (2, 3):
        first, last = numbers[:2]
        step = numbers[2] if len(numbers) == 3 else 1 if last >= first else -1
        if step:
            reached = range(first, last + (1 if step > 0 else -1), step)
            return [str(number) for number in reached[:MAX_ROUNDS]]
    return []


def _is_mapped(word: str) -> bool:
    """Whether the file system in front of a path is there, as far as its name tells."""
    found = NUMBERED.match(word)
    return found is None or int(found[1]) < MAPPINGS


def _places(word: str, folder: str) -> Iterator[str]:
    """Where the command may lie: the shell adds .nsh or .efi, and looks in the search path too."""
    for base in dict.fromkeys((folder, "efi/tools", "efi/boot", "")):
        path = _path(word, base)
        if path:
            yield path
            yield f"{path}.nsh"
            yield f"{path}.efi"


def _path(word: str, folder: str) -> str:
    word = MAPPING.sub("", word, count=1).replace("\\", "/")
    joined = word if word.startswith("/") else f"{folder}/{word}"
    return posixpath.normpath(f"/{joined}").lstrip("/")


def _is_program(tree: Tree, path: str) -> bool:
    """Whether this is a program that firmware for ARM starts."""
    blob = Blob.of_path(tree, path)
    program = artefacts.efi_program(blob.read(0, artefacts.HEAD)) if blob else None
    return program is not None and program.arch in (Arch.AARCH64, Arch.ARMV7L)
