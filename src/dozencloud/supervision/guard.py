"""What every API of the cloud is spared: requests that no service could make sense of.

Each service checks what a request means; few check that it is text, numbers and a tree of sensible
depth before they parse, log and store it. Upstream answers with errors of its own, or with none: a
lone surrogate in a name kills the threads of an API one by one, as each stumbles over its own log.
So these are refused here, in one way for all; and an error that is nobody's fault but the
service's is logged, and told without a word on how the cloud is made.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from dozencloud.scrub import scrub
from dozencloud.supervision import blame

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
log = logging.getLogger(__name__)

LARGEST_BODY = 4 << 20
"""Bytes of a JSON body. The gateway's limits are lower; this is for what comes another way."""
DEPTH = 64
"""Lists and objects inside each other. Nothing in OpenStack's APIs has more than ten."""
LARGEST = 1 << 63
"""Above this no database column has room."""
STREAMED = re.compile(r"(?:/v\d+(?:\.\d+)?)?/images/[^/]+/(?:file|stage)/*")
"""Image data, which is no text (path below the service's prefix)."""
NUMBERS = re.compile(r"[+-]?\d{19,}")
SERVERS = re.compile(r"/v2(?:\.1)?/(?:[0-9a-f]{32}/)?servers(?:/detail)?/?")
"""Lists whose filters go to the database as regular expressions (nova/db/main/api.py,
_regex_instance_filter)."""
UNSTORED = frozenset(("password", "original_password", "secret", "passcode", "adminPass"))
"""Kept as hashes, if at all: any character will do."""
UNREADABLE = (
    "The service could not work with a value in the request: one is of another type, longer, or "
    "larger than its documentation says."
)
UNEXPECTED = "The service met an error that it did not expect; its log has the details."
FAILED = "500 Internal Server Error"
MOST_REPEATS = 4
"""Of *, + and {} in one expression: with more, the work grows beyond what a name is worth."""
PLAIN_PATTERN = re.compile(
    # Bounded repeats of single things: neither MariaDB's limits nor its patience are reached.
    r"\^?(?:(?:\\[.+*?^$()\[\]{}|\\dws-]|\[\^?[\w .:-]+\]|[^\\\[\](){}*+?|^$])"
    r"(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})?|\|)*\$?"
)

PARENTHESES = re.compile(r"[()]")
MEANING = re.compile(r"[\\^$*+?{}|\[\]]")
"""With one of these an expression means more than its own characters."""


class BadRequest(Exception):
    """Its text is for the client."""


# ---- what is refused ----------------------------------------------------------------------


def check_text(text: str, where: str, *, stored: bool = True) -> None:
    """BadRequest for characters that no name of a thing can have."""
    if "\0" in text:
        raise BadRequest(f"There is a NUL character in {where}: remove it.")
    if not text.isascii():
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise BadRequest(f"There is half a character in {where} (a lone surrogate): remove it.")
        if stored and max(text) > "\uffff":
            raise BadRequest(
                f"There is a character above U+FFFF in {where}, such as an emoji, which the "
                "cloud's databases cannot store: remove it."
            )


def check_number(number: float) -> None:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise BadRequest("Infinity and NaN are no numbers of JSON: remove them.")
    elif not -LARGEST <= number < LARGEST:
        raise BadRequest("A number in the request is larger than any that the cloud can store.")


def check_body(body: bytes) -> None:
    """BadRequest for JSON that is no plain tree. What is not JSON is left to the service."""
    text = _text(body, "the request's body")
    try:
        value = json.loads(text, parse_int=_number, parse_constant=_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        if text.lstrip()[:1] in ("{", "["):
            raise BadRequest("The request's body is not valid JSON: mend it.") from None
        return
    check_value(value)


def check_value(value: Any) -> None:
    """Without recursion, which is what this must survive."""
    waiting = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEPTH:
            raise _too_deep()
        if isinstance(each, str):
            check_text(each, "the request's body")
        elif isinstance(each, dict):
            for name, inner in each.items():
                check_text(name, "the request's body")
                if name in UNSTORED and isinstance(inner, str):
                    check_text(inner, name, stored=False)
                else:
                    waiting.append((inner, depth + 1))
        elif isinstance(each, list):
            waiting.extend((inner, depth + 1) for inner in each)
        elif isinstance(each, int | float):
            check_number(each)


def _too_deep() -> BadRequest:
    return BadRequest(f"The request's body has more than {DEPTH} levels: send it flatter.")


def _number(text: str) -> int:
    # Python refuses to read very long ones, and takes long for long ones.
    if len(text) > 20:
        raise BadRequest("A number in the request is larger than any that the cloud can store.")
    return int(text)


def _constant(text: str) -> float:
    raise BadRequest(f"{text} is no number of JSON: remove it.")


def check_path(path: str) -> None:
    """BadRequest for a decoded path (of WSGI: bytes as latin-1) that is no text."""
    check_text(_text(path.encode("latin-1"), "the address"), "the address")


def check_query(query: str, *, patterns: bool = False) -> None:
    """BadRequest for filters that a database would choke on. patterns: they are expressions."""
    for part in query.split("&"):
        name, _, value = (_text(unquote_to_bytes(each), "the query") for each in _halves(part))
        check_text(name + value, "the query")
        if NUMBERS.fullmatch(value) and not -LARGEST <= int(value[:40]) < LARGEST:
            raise BadRequest("A number in the query is larger than any that the cloud can store.")
        if patterns:
            check_pattern(name, value)


def check_pattern(name: str, value: str) -> None:
    """BadRequest for a regular expression that MariaDB refuses, or would work on for long."""
    repeats = sum(value.count(each) for each in "*+{")
    if len(value) > 255 or repeats > MOST_REPEATS or not PLAIN_PATTERN.fullmatch(value):
        raise BadRequest(
            f"The filter {name} is a regular expression, and this one is not taken: use letters, "
            "digits, ., [...], at most 4 of *, + and {1,99} behind single characters, no groups. "
            "What has such a name is found by its id."
        )


def plain_parentheses(query: str) -> str:
    """The query, with parentheses in its filter `name` as characters.

    Clients look so for the server that has this name. Where nothing is repeated or chosen, they
    mean nothing else.
    """
    parts = []
    for part in query.split("&"):
        name, _, value = (_text(unquote_to_bytes(each), "the query") for each in _halves(part))
        if name == "name" and PARENTHESES.search(value) and not MEANING.search(value):
            part = "name=" + quote(PARENTHESES.sub(r"\\\g<0>", value), safe="")
        parts.append(part)
    return "&".join(parts)


def _halves(part: str) -> tuple[str, str, str]:
    name, sign, value = part.replace("+", " ").partition("=")
    return name, sign, value


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"There is something in {where} that is not UTF-8: mend it.") from None


# ---- around a service ---------------------------------------------------------------------


def guarded(application: Application, prefix: str) -> Application:
    """The application, asked only what it can understand. prefix: its path at the gateway."""
    blame.listen()

    def inner(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            path = environ.get("PATH_INFO", "")
            check_path(path)
            patterns = prefix == "/compute" and SERVERS.fullmatch(path) is not None
            if patterns:
                environ["QUERY_STRING"] = plain_parentheses(environ.get("QUERY_STRING", ""))
            check_query(environ.get("QUERY_STRING", ""), patterns=patterns)
            if not STREAMED.fullmatch(path):
                _check_input(environ)
        except BadRequest as refused:
            return answer(start_response, 400, str(refused))
        return _answered(application, environ, start_response)

    return inner


def _check_input(environ: dict[str, Any]) -> None:
    """Read and check the body, and put it back as it was."""
    length = environ.get("CONTENT_LENGTH") or ""
    if not length and not environ.get("HTTP_TRANSFER_ENCODING"):
        return
    if length.isdecimal() and int(length) > LARGEST_BODY:
        raise _too_large()
    body = environ["wsgi.input"].read(LARGEST_BODY + 1)
    if len(body) > LARGEST_BODY:
        raise _too_large()
    if body:
        check_body(body)
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def _too_large() -> BadRequest:
    return BadRequest(f"The request's body is larger than {LARGEST_BODY >> 20} MiB: send less.")


def _answered(
    application: Application, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """What the service says; of an error without what it tells about the machine."""
    begun: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        begun[:] = [status, headers, exc_info]

    with blame.hearing() as caught:
        try:
            response = application(environ, start)
            if begun and begun[0][:1] in "123":
                start_response(*begun)
                return response
            # An error is short; `begun` may also come with the first piece (PEP 3333).
            pieces = iter(response)
            first = next(pieces, b"")
            if begun[0][:1] in "123":
                start_response(*begun)
                return _chain(first, pieces, response)
            body = first + b"".join(pieces)
            _close(response)
        except Exception as error:
            log.exception("%s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
            caught.append(error)
            begun[:] = [FAILED, [], None]
    status, headers, exc_info = begun
    if status[:3] == "500" and any(map(blame.is_clients, caught)):
        return answer(start_response, 400, UNREADABLE)
    if status is FAILED:
        return answer(start_response, 500, UNEXPECTED)
    clean = scrub(body.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if clean != body:
        headers = [each for each in headers if each[0].lower() != "content-length"]
        headers.append(("Content-Length", str(len(clean))))
    start_response(status, headers, exc_info)
    return [clean]


def _chain(first: bytes, rest: Iterator[bytes], response: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from rest
    finally:
        _close(response)


def _close(response: Iterable[bytes]) -> None:
    if close := getattr(response, "close", None):
        close()


def answer(start_response: Callable[..., Any], code: int, sentence: str) -> list[bytes]:
    """An error in the form that clients of OpenStack know."""
    title = {400: "Bad Request", 500: "Internal Server Error"}[code]
    body = json.dumps({"error": {"code": code, "title": title, "message": sentence}}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{code} {title}", headers)
    return [body]


def speak_of_anything() -> None:
    """Have this process write every text to its log, also one that is no Unicode."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files
