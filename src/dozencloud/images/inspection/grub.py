"""GRUB's language, run as far as it decides what starts: kernel, arguments, initial RAM disks.

Source: GRUB manual, chapter 6 ("Writing full configuration files directly"), and
grub-core/script/yylex.l for the words. Text becomes words, words become commands, and commands run
in an environment of variables. What only a running GRUB knows is UNKNOWN; of a condition that rests
on it all branches run, and where they disagree on the initrds the entry is not sure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dozencloud.images.inspection.bootentry import LIMIT, MAX_ENTRIES, MAX_LINE, Entry
from dozencloud.images.inspection.tree import Tree

UNKNOWN = "\0"
"""In a value: something that cannot be told here."""

MAX_DEPTH = 40
"""Of blocks in each other, calls of functions and files that load each other, together."""
MAX_FILES = 16
MAX_TOKENS = 100_000
MAX_STEPS = 200_000
"""Parts of words that are expanded; a look into a file system counts as many."""
LOOK = 50
MAX_WORDS = 1024
MAX_VARIABLES = 256
MAX_ROUNDS = 64
"""Of one loop."""

# --- words ---------------------------------------------------------------------------------------

NAME = r"[A-Za-z_]\w*|\d+|[?#*@]"
VARIABLE = re.compile(rf"\$(?:\{{({NAME})\}}|({NAME}))", re.ASCII)
PIECE = re.compile(
    r"""(?P<blank>(?:[ \t]|\\\n)+)
    |(?P<operator>[{}|&;<>\n])
    |(?P<single>'[^']*'?)
    |(?P<double>"(?:\\.|[^"\\])*"?)
    |(?P<variable>"""
    + VARIABLE.pattern
    + r""")
    |(?P<escape>\\.?)
    |(?P<plain>[^{}|&$;<> \t\n'"\\]+|\$)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
INSIDE = re.compile(rf"\\(.)|{VARIABLE.pattern}", re.DOTALL | re.ASCII)
ESCAPED = '$"\\'
"""What a backslash hides between double quotes; before anything else it stands for itself."""
GLOB = re.compile(r"[*?]|\[.+\]")


@dataclass(frozen=True)
class Part:
    """A piece of a word. text: itself, or the name of a variable."""

    text: str
    quoted: bool = False
    variable: bool = False


Word = tuple[Part, ...]
Token = str | Word
"""An operator, a line's end included, or a word."""


def tokens(text: str) -> list[Token]:
    """A script in words, at most MAX_TOKENS."""
    # GRUB itself drops carriage returns (grub_file_getline).
    text = text.replace("\r", "").replace(UNKNOWN, "")
    found: list[Token] = []
    word: list[Part] = []
    at = 0
    while at < len(text) and len(found) < MAX_TOKENS:
        if text[at] == "#" and not word:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        piece = PIECE.match(text, at)
        assert piece is not None  # noqa: S101  (some alternative takes any character)
        at = piece.end()
        if piece.lastgroup in ("blank", "operator"):
            if word:
                found.append(tuple(word))
                word = []
            if piece.lastgroup == "operator":
                found.append(piece[0])
        else:
            word += _parts(piece)
    if word:
        found.append(tuple(word))
    return found


def _parts(piece: re.Match[str]) -> Iterator[Part]:
    text = piece[0]
    if text.startswith("'"):
        yield Part(text.strip("'"), quoted=True)
    elif text.startswith('"'):
        yield from _inside(text[1:].removesuffix('"') if len(text) > 1 else "")
    elif text.startswith("\\"):
        yield Part(text[1:], quoted=True)
    elif variable := VARIABLE.fullmatch(text):
        yield Part(variable[1] or variable[2], variable=True)
    else:
        yield Part(text)


def _inside(text: str) -> Iterator[Part]:
    """What stands between double quotes."""
    at = 0
    plain = ""
    for found in INSIDE.finditer(text):
        plain += text[at : found.start()]
        at = found.end()
        if escaped := found[1]:
            plain += escaped if escaped in ESCAPED else "" if escaped == "\n" else found[0]
        else:
            yield Part(plain, quoted=True)
            yield Part(found[2] or found[3], quoted=True, variable=True)
            plain = ""
    yield Part(plain + text[at:], quoted=True)


# --- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """Words up to the end of a line or a semicolon."""

    words: tuple[Word, ...]


@dataclass(frozen=True)
class Block:
    """`menuentry`, `submenu` or `function`, and what is between its braces."""

    kind: str
    words: tuple[Word, ...]
    body: tuple[Node, ...]


@dataclass(frozen=True)
class If:
    """Conditions with what they guard; the last one of an `else` is empty."""

    arms: tuple[tuple[tuple[Node, ...], tuple[Node, ...]], ...]


@dataclass(frozen=True)
class Loop:
    """`for`, with its words, or `while` and `until`, with their condition."""

    kind: str
    words: tuple[Word, ...]
    condition: tuple[Node, ...]
    body: tuple[Node, ...]


Node = Command | Block | If | Loop
BLOCKS = ("menuentry", "submenu", "function")
LOOPS = ("for", "while", "until")
STRAY = ("then", "elif", "else", "fi", "do", "done")


def parse(text: str) -> tuple[Node, ...]:
    """The commands of a script. What is no script becomes whatever it looks like."""
    return _Parser(tokens(text)).until(())


class _Parser:
    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0

    def until(self, ends: tuple[str, ...]) -> tuple[Node, ...]:
        """Commands up to a word, or a closing brace, that ends them; it stays."""
        nodes: list[Node] = []
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._at = len(self._tokens)
        while self._at < len(self._tokens):
            word = self._next()
            if word in ends:
                break
            if isinstance(self._tokens[self._at], str) or word in STRAY:
                self._at += 1
            elif word == "if":
                nodes.append(self._if())
            elif word in LOOPS:
                nodes.append(self._loop(word))
            elif word in BLOCKS:
                nodes += self._block(word)
            else:
                nodes.append(Command(self._words()))
        self._depth -= 1
        return tuple(nodes)

    def _next(self) -> str:
        """The next token as it is written; a word that is not plain is of no meaning here."""
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        if isinstance(token, str):
            return token
        return token[0].text if len(token) == 1 and token[0] == Part(token[0].text) else ""

    def _accept(self, *words: str) -> str:
        word = self._next()
        if word and word in words:
            self._at += 1
            return word
        return ""

    def _words(self) -> tuple[Word, ...]:
        words: list[Word] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if isinstance(token, str):
                break
            words.append(token)
            self._at += 1
        return tuple(words)

    def _if(self) -> If:
        arms: list[tuple[tuple[Node, ...], tuple[Node, ...]]] = []
        while self._accept("if", "elif"):
            condition = self.until(("then", "fi"))
            self._accept("then")
            arms.append((condition, self.until(("elif", "else", "fi"))))
        if self._accept("else"):
            arms.append(((), self.until(("fi",))))
        self._accept("fi")
        return If(tuple(arms))

    def _loop(self, kind: str) -> Loop:
        self._at += 1
        words = self._words() if kind == "for" else ()
        condition = self.until(("do", "done"))
        self._accept("do")
        body = self.until(("done",))
        self._accept("done")
        return Loop(kind, words, condition, body)

    def _block(self, kind: str) -> Iterator[Block]:
        self._at += 1
        words = self._words()
        while self._accept("\n"):
            pass
        if self._accept("{"):
            body = self.until(("}",))
            self._accept("}")
            yield Block(kind, words, body)


# --- what they do --------------------------------------------------------------------------------

PRESET = {"grub_platform": "efi", "menuentry_id_option": "--id", "default": "0"}
UNTOLD = re.compile(
    r"root|cmdpath|fw_path|grub_cpu|config_file|net_.*|lockdown|shim_lock|initrdfail|\?"
)
"""Variables that GRUB sets itself. initrdfail: Ubuntu tries without an initrd, and with it at the
next boot."""
KERNELS = ("linux", "linuxefi", "linux16")
INITRDS = ("initrd", "initrdefi", "initrd16")
STOPS = ("boot", "exit", "halt", "reboot", "normal_exit", "return", "break", "continue")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.ASCII | re.DOTALL)
WITH_VALUE = ("--class", "--id", "--users", "--hotkey", "--source")
NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}


@dataclass(frozen=True)
class Item:
    """A line of a menu. sure: it is there whatever the conditions say."""

    title: str
    name: str
    body: tuple[Node, ...]
    submenu: bool = False
    sure: bool = True


@dataclass
class Scope:
    """What a script has brought about so far.

    boot: what `boot` would start. stopped: the command that ended it. doubt: what follows runs only
    perhaps.
    """

    variables: dict[str, str]
    boot: Entry = field(default_factory=Entry)
    items: list[Item] = field(default_factory=list)
    stopped: str = ""
    doubt: bool = False

    def fork(self) -> Scope:
        """One that goes another way; lines of the menu are common to all ways."""
        return replace(self, variables=dict(self.variables))

    def within(self, item: Item) -> Scope:
        """One for a line of the menu."""
        return replace(self.fork(), boot=Entry(item.name, item.title), items=[], stopped="")

    def get(self, name: str) -> str:
        value = self.variables.get(name)
        if value is not None:
            return value
        if name.startswith("feature_"):
            return "y"
        return UNKNOWN if UNTOLD.fullmatch(name) else ""

    def set(self, name: str, value: str) -> None:
        if name in self.variables or len(self.variables) < MAX_VARIABLES:
            self.variables[name] = value

    def join(self, other: Scope) -> None:
        """Either this or the other happened."""
        for name in {*self.variables, *other.variables}:
            if self.get(name) != other.get(name):
                self.variables[name] = UNKNOWN
        if self.boot != other.boot:
            alike = (self.boot.kernel, self.boot.initrds) == (
                other.boot.kernel,
                other.boot.initrds,
            )
            best = max(self.boot, other.boot, key=lambda one: (bool(one.kernel), one.initrds != ()))
            sure = alike and self.boot.sure and other.boot.sure
            self.boot = replace(best, sure=sure)
        self.doubt |= other.doubt or self.stopped != other.stopped
        self.stopped = self.stopped and other.stopped


class Script:
    """The configuration of a GRUB, run.

    trees: the file system that it lies in, then the others of the image. environment: of grubenv.
    """

    def __init__(self, trees: Sequence[Tree], environment: dict[str, str]) -> None:
        self._trees = trees
        self._environment = environment
        self._functions: dict[str, tuple[Node, ...]] = {}
        self._steps = MAX_STEPS
        self._files = MAX_FILES
        self._depth = 0
        self._perhaps = 0
        self._cut = False
        self.blscfg = False
        """It asks for the entries of the Boot Loader Specification."""
        self.state = Scope({**PRESET, **environment})

    def run(self, text: str, folder: str = "") -> None:
        """Run a grub.cfg that lies in a folder."""
        self.state.variables |= {"prefix": f"/{folder}", "config_directory": f"/{folder}"}
        self._cut = len(text) >= LIMIT
        self._all(parse(text), self.state)

    def chosen(self) -> Entry | None:
        """What starts without anybody choosing."""
        entry = self._of_menu(self.state, self.state.get("default"))
        if entry is None and (other := next(self._bootable(self.state), None)):
            # What is chosen starts no kernel that could be looked at.
            entry = replace(other, sure=False)
        entry = entry or _booted(self.state)
        return replace(entry, sure=False) if entry and self._cut else entry

    # A menu.

    def _of_menu(self, state: Scope, wanted: str) -> Entry | None:
        if state.stopped == "boot" and state.boot.kernel:
            return _booted(state)
        first, _, rest = wanted.partition(">")
        at = _position(state.items, first)
        if at is None and UNKNOWN not in wanted:
            named = (one for one in self._bootable(state) if first in (one.name, one.title))
            if entry := next(named, None) if first else None:
                return entry
        sure = UNKNOWN not in wanted and all(item.sure for item in state.items[: (at or 0) + 1])
        if not state.items:
            return None
        entry = self._of_item(state.items[at or 0], state, rest or "0")
        return entry and replace(entry, sure=entry.sure and sure)

    def _of_item(self, item: Item, state: Scope, rest: str) -> Entry | None:
        """What a line of the menu starts; of a menu behind it, the line that is wanted there."""
        inner = state.within(item)
        if not item.submenu:
            # A menu behind an entry is one that it loads, which has a default of its own.
            inner.set("default", "0")
        self._all(item.body, inner)
        if inner.items and self._depth < MAX_DEPTH:
            self._depth += 1
            entry = self._of_menu(inner, rest if item.submenu else inner.get("default"))
            self._depth -= 1
            return entry
        return _booted(inner)

    def _bootable(self, state: Scope) -> Iterator[Entry]:
        """Every entry with a kernel, those of menus in the menu too."""
        for item in state.items:
            inner = state.within(item)
            self._all(item.body, inner)
            if entry := _booted(inner):
                yield entry
            elif inner.items and self._depth < MAX_DEPTH:
                self._depth += 1
                yield from self._bootable(inner)
                self._depth -= 1

    # Commands.

    def _all(self, nodes: Sequence[Node], state: Scope) -> None:
        self._depth += 1
        for node in nodes:
            if state.stopped:
                break
            if self._depth > MAX_DEPTH or self._steps <= 0:
                self._cut = True
                break
            self._one(node, state)
        self._depth -= 1

    def _one(self, node: Node, state: Scope) -> None:
        if isinstance(node, Command):
            self._command(node, state)
        elif isinstance(node, If):
            self._if(node, state)
        elif isinstance(node, Loop):
            self._loop(node, state)
        else:
            words = self._words(node.words, state)
            if node.kind == "function":
                if words and len(self._functions) < MAX_VARIABLES:
                    self._functions[words[0]] = node.body
            elif len(state.items) < MAX_ENTRIES:
                state.items.append(_item(node, words, sure=not self._perhaps))

    def _if(self, node: If, state: Scope) -> None:
        ways: list[Scope] = []
        for condition, body in node.arms:
            truth = self._truth(condition, state) if condition else True
            if truth is None:
                ways.append(self._perhaps_all(body, state))
            elif truth:
                self._perhaps += bool(ways)
                self._all(body, state)
                self._perhaps -= bool(ways)
                break
        for way in ways:
            state.join(way)

    def _perhaps_all(self, body: Sequence[Node], state: Scope) -> Scope:
        """The state, had these commands run."""
        way = state.fork()
        self._perhaps += 1
        self._all(body, way)
        self._perhaps -= 1
        return way

    def _loop(self, node: Loop, state: Scope) -> None:
        words = self._words(node.words, state)
        # for NAME in WORD…
        values = words[2:] if words[1:2] == ["in"] else []
        if node.kind == "for" and values and not any(UNKNOWN in value for value in values):
            for value in values[:MAX_ROUNDS]:
                state.set(words[0], value)
                self._all(node.body, state)
                if state.stopped in ("break", "continue"):
                    ended, state.stopped = state.stopped, ""
                    if ended == "break":
                        return
            return
        if node.kind != "for" and self._truth(node.condition, state) is (node.kind == "until"):
            return
        if node.kind == "for" and words:
            state.set(words[0], UNKNOWN)
        # How often it runs, nobody can tell: what it would change is unknown afterwards.
        way = self._perhaps_all(node.body, state)
        way.stopped = "" if way.stopped in ("break", "continue") else way.stopped
        if way.boot != state.boot:
            way.boot = replace(way.boot, sure=False)
        state.join(way)

    def _command(self, node: Command, state: Scope) -> None:
        words = self._words(node.words, state)
        if words[:1] == ["!"]:
            words = words[1:]
        if not words:
            return
        name, arguments = words[0], words[1:]
        if assignment := ASSIGNMENT.fullmatch(name):
            state.set(assignment[1], assignment[2])
        elif name == "set":
            for word in arguments[:1]:
                if assignment := ASSIGNMENT.fullmatch(word):
                    state.set(assignment[1], assignment[2])
        elif name in self._functions:
            self._call(self._functions[name], arguments, state)
        elif (plain := name.replace(UNKNOWN, "")) in KERNELS:
            state.boot = _with_kernel(state.boot, arguments)
        elif plain in INITRDS:
            state.boot = _with_initrds(state.boot, arguments)
        elif UNKNOWN in name:
            state.boot = replace(state.boot, sure=False)
        else:
            self._other(name, arguments, state)

    def _other(self, name: str, arguments: list[str], state: Scope) -> None:
        if name in STOPS:
            state.stopped = name
        elif name == "unset":
            for word in arguments:
                state.set(word, "")
        elif name == "load_env":
            for word, value in self._environment.items():
                state.set(word, value)
        elif name == "blscfg":
            self.blscfg = True
        elif name in ("source", ".") and arguments:
            self._all(self._file(arguments[0]), state)
            state.stopped = "" if state.stopped == "return" else state.stopped
        elif name in ("configfile", "normal") and arguments:
            self._configuration(arguments[0], state)
        elif name == "eval":
            self._all(parse(" ".join(arguments)), state)
        else:
            for variable in _set_by(name, arguments):
                state.set(variable, UNKNOWN)

    def _configuration(self, path: str, state: Scope) -> None:
        """Another file takes the place of this one, if it is there."""
        nodes = self._file(path)
        if not nodes:
            return
        folder = grub_path(path).rpartition("/")[0]
        if not self._perhaps:
            state.items.clear()
        state.set("config_directory", folder)
        self._all(nodes, state)
        state.stopped = state.stopped or "configfile"

    def _call(self, body: tuple[Node, ...], arguments: list[str], state: Scope) -> None:
        for number, value in enumerate(arguments[:9], 1):
            state.set(str(number), value)
        state.set("@", " ".join(arguments)[:MAX_LINE])
        state.set("#", str(len(arguments)))
        self._all(body, state)
        state.stopped = "" if state.stopped == "return" else state.stopped

    # Words.

    def _words(self, words: Sequence[Word], state: Scope) -> list[str]:
        found: list[str] = []
        for word in words:
            found += self._expand(word, state)
            if len(found) >= MAX_WORDS:
                break
        return found[:MAX_WORDS]

    def _expand(self, word: Word, state: Scope) -> list[str]:
        """A word with its variables' values; of unquoted ones, each blank begins another word."""
        self._steps -= len(word)
        made = [""]
        there = False
        for part in word:
            value = state.get(part.text) if part.variable else part.text
            there |= part.quoted or value.strip(" ") != ""
            if part.variable and not part.quoted:
                first, *more = re.split(r"[ \t\n]+", value)
                made[-1] += first
                made += more
            else:
                made[-1] += value
                # What fits may be many files, or none.
                if not part.quoted and GLOB.search(value):
                    made[-1] += UNKNOWN
            made[-1] = made[-1][:MAX_LINE]
            if len(made) > MAX_WORDS:
                break
        if len(made) == 1:
            return made if there else []
        return [each for each in made if each]

    # Conditions.

    def _truth(self, nodes: Sequence[Node], state: Scope) -> bool | None:
        """Whether the last of these commands succeeds; None: only a running GRUB knows."""
        self._all(nodes[:-1], state)
        last = nodes[-1] if nodes else None
        if not isinstance(last, Command):
            self._all(nodes[-1:], state)
            return None
        words = self._words(last.words, state)
        negated = words[:1] == ["!"]
        truth = self._tested(words[1:] if negated else words)
        if truth is None:
            self._all(nodes[-1:], state)
            return None
        return truth is not negated

    def _tested(self, words: list[str]) -> bool | None:
        if words[:1] == ["["] and words[-1:] == ["]"]:
            return self._test(words[1:-1])
        if words[:1] == ["test"]:
            return self._test(words[1:])
        return words == ["true"] if words in (["true"], ["false"]) else None

    def _test(self, words: list[str]) -> bool | None:
        either: list[bool | None] = []
        for alternative in _split(words, "-o"):
            both = [self._term(term) for term in _split(alternative, "-a")]
            either.append(False if False in both else None if None in both else True)
        return True if True in either else None if None in either else False

    def _term(self, words: list[str]) -> bool | None:
        negated = words[:1] == ["!"]
        truth = self._plain_test(words[1:] if negated else words)
        return truth if truth is None else truth is not negated

    def _plain_test(self, words: list[str]) -> bool | None:
        if len(words) < 2:
            return _is_set("".join(words))
        if len(words) == 2:
            option, value = words
            if option in ("-z", "-n"):
                there = _is_set(value)
                return there if there is None else there is (option == "-n")
            # What is not here may be on the device that GRUB calls $root.
            return True if option in ("-d", "-e", "-f", "-s") and self._find(value) else None
        if len(words) != 3 or any(UNKNOWN in word for word in words):
            return None
        left, operator, right = words
        if operator in ("=", "=="):
            return left == right
        if operator == "!=":
            return left != right
        if operator in NUMBERS and re.fullmatch(r"[0-9]{1,9} [0-9]{1,9}", f"{left} {right}"):
            return NUMBERS[operator](int(left), int(right))
        return None

    # Files.

    def _find(self, path: str) -> tuple[Tree, str] | None:
        """Where a file is; GRUB's paths are relative to a file system that only GRUB knows."""
        self._steps -= LOOK
        path = grub_path(path).lstrip("/")
        if UNKNOWN in path or not 0 < len(path) <= 1024:
            return None
        for tree in self._trees:
            for prefix in ("", "boot/"):
                if tree.exists(prefix + path):
                    return tree, prefix + path
        return None

    def _file(self, path: str) -> tuple[Node, ...]:
        """The commands in another file; none if it cannot be found."""
        found = self._find(path)
        if found is None:
            return ()
        if self._files <= 0:
            self._cut = True
            return ()
        self._files -= 1
        return parse(found[0].text(found[1], LIMIT))


def _position(items: Sequence[Item], wanted: str) -> int | None:
    for at, item in enumerate(items):
        if wanted and wanted in (item.name, item.title):
            return at
    if re.fullmatch(r"[0-9]{1,3}", wanted) and int(wanted) < len(items):
        return int(wanted)
    return None


def _item(node: Block, words: list[str], *, sure: bool) -> Item:
    """Options may stand before the title, and behind it."""
    title = name = ""
    rest = iter(word.replace(UNKNOWN, "") for word in words)
    for word in rest:
        option, equal, value = word.partition("=")
        if option in WITH_VALUE:
            value = value if equal else next(rest, "")
            name = value if option == "--id" else name
        elif not word.startswith("--"):
            title = title or word
    return Item(title, name, node.body, node.kind == "submenu", sure)


def _booted(state: Scope) -> Entry | None:
    if not state.boot.kernel:
        return None
    return replace(state.boot, sure=state.boot.sure and not state.doubt)


def _with_kernel(entry: Entry, words: list[str]) -> Entry:
    """After `linux`: what was loaded before is given up."""
    if not words:
        return entry
    kernel = grub_path(words[0])
    arguments = tuple(part for word in words[1:] for part in word.replace(UNKNOWN, "").split())
    return Entry(entry.name, entry.title, kernel, (), arguments, sure=UNKNOWN not in kernel)


def _with_initrds(entry: Entry, words: list[str]) -> Entry:
    """After `initrd`: it takes the place of an earlier one (grub-core/loader/linux.c)."""
    # newc:NAME:PATH puts a file of that name into the archive.
    files = [word.split(":", 2)[2] if re.match("newc:[^:]*:", word) else word for word in words]
    paths = tuple(path for file in files if (path := grub_path(file)))
    known = tuple(path for path in paths if UNKNOWN not in path)
    return replace(entry, initrds=known, sure=entry.sure and known == paths)


def grub_path(path: str) -> str:
    """A path without the device in front of it: ($root)/vmlinuz."""
    return re.sub(r"^\([^)]*\)", "", path)


def _set_by(name: str, arguments: list[str]) -> Iterator[str]:
    """Variables that other commands set: --set NAME, --set=NAME, --set 1:NAME."""
    if name == "search":
        yield "root"
    if name == "read":
        yield from arguments[:1]
    for at, word in enumerate(arguments):
        option, equal, value = word.partition("=")
        if option in ("--set", "-s"):
            value = value if equal else "".join(arguments[at + 1 : at + 2])
            yield value.rpartition(":")[2]


def _split(words: list[str], operator: str) -> Iterator[list[str]]:
    term: list[str] = []
    for word in words:
        if word == operator and term:
            yield term
            term = []
        else:
            term.append(word)
    yield term


def _is_set(value: str) -> bool | None:
    if value.replace(UNKNOWN, ""):
        return True
    return None if value else False


def expand(text: str, variables: dict[str, str]) -> str:
    """Variables replaced once, as in an entry's file; what is not set becomes empty."""
    return VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)[:MAX_LINE]
