"""Text that others have chosen, as an administrator's terminal or a log may show it.

Names of images, networks and projects may hold what a terminal takes for orders (it renames its
window, clears what was said, answers as if somebody had typed), line ends that forge a line, or
marks that show letters in another order than they have. All of these are shown as `\\x1b`, `\\n`,
`\\u202e`. What is a secret in a log line is shown as `***`.
"""

from __future__ import annotations

import logging
import re

_UNSEEN = (
    # C0, DEL, C1
    "\x00-\x1f\x7f-\x9f"
    # Marks that are no letters: soft hyphen, joiners, directions, line and paragraph separators,
    # annotations, tags; halves of surrogate pairs.
    "\u00ad\u061c\u070f\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff"
)
_IN_A_LINE = re.compile(f"[{_UNSEEN}]")
_IN_A_TEXT = re.compile(f"(?![\n\t]|\r\n)[{_UNSEEN}]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if found[0] in _NAMED:
        return _NAMED[found[0]]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def line(text: object) -> str:
    """One line: a name, a cell of a table, a message."""
    return _IN_A_LINE.sub(_escaped, str(text))


def text(said: object) -> str:
    """Of several lines, whose ends are ours; tabs stay, too."""
    return _IN_A_TEXT.sub(_escaped, str(said))


# ---- logs ---------------------------------------------------------------------------------

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SECRETS = re.compile(
    "|".join(
        (
            # Addresses of consoles; Nova's own `ConsoleAuthToken(token='...')`.
            r"(?P<a>token(?:=|%3d)['\"]?)[\w.~-]+",
            rf"(?P<b>\btoken\W{{1,4}}){_UUID}",
            r"(?P<c>\binternal_access_path=['\"]?)[\w.~-]+",
            r"(?P<d>x-(?:auth|service|subject)-token['\"]?\s*[:=,]\s*b?['\"]?)[^\s'\",}]+",
            r"(?P<e>['\"]token['\"]\s*:\s*[ub]?['\"])[^'\"]+",
            r"(?P<f>\b\w*(?:password|passwd|admin_?pass|secret)['\"]?\s*[:=]\s*[ub]?['\"])[^'\"]+",
            # rabbit://user:password@host
            r"(?P<g>://[^\s:/@]+:)[^\s@/]+(?=@)",
            # Keystone's tokens (Fernet), wherever they are.
            r"(?P<h>)gAAAA[\w-]{60,}(?:=|%3d){0,2}",
        )
    ),
    re.IGNORECASE,
)
"""What must not be in a log; groups hold what stays."""


_PLAIN = bytes([*range(0x20, 0x7F), *b"\n\t"])
_HINT = re.compile(rb"token|gaaaa|pass|secret|internal_access_path|://[^\s/@]*@", re.IGNORECASE)


def _hidden(found: re.Match[str]) -> str:
    return f"{found[found.lastgroup or 0]}***"


def log_lines(data: bytes) -> bytes:
    """What a service has written, as its log may hold it. data: whole lines."""
    if data.translate(None, _PLAIN):  # most lines hold nothing else
        # Bytes that are no UTF-8 are shown as \x9b, too.
        data = text(data.decode(errors="backslashreplace")).encode()
    if _HINT.search(data):
        data = _SECRETS.sub(_hidden, data.decode()).encode()
    return data


class Record(logging.LogRecord):
    """A message that is one line, whatever names are in it; logging's record factory."""

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        """The message with its arguments."""
        return line(super().getMessage())
