"""Whether the machine gets out: route, names, and the servers that an installation needs."""

from __future__ import annotations

import http.client
import queue
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from dozencloud.facts.run import ask

LIMIT = 3.0  # seconds, for all questions together
NAME_LIMIT = 11.0  # seconds: of two name servers the first may be silent, for 5 s each time

_RTF_UP_GATEWAY = 0x3
_PROXY_AUTHENTICATION = 407


@dataclass(frozen=True)
class Target:
    """A server to try. `apt`: reach it as apt would, whose proxy may be its own."""

    url: str
    apt: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one server answered. `proxy` is empty if reached directly."""

    url: str
    reached: bool
    reason: str
    proxy: str
    seconds: float


@dataclass(frozen=True)
class Reach:
    """The way out of this machine."""

    default_route: bool
    outcomes: tuple[Outcome, ...]

    def of(self, url: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.url == url), None)


def parse_route(ipv4: str, ipv6: str) -> bool:
    """Whether /proc/net/route or /proc/net/ipv6_route has a default route that is up."""
    for line in ipv4.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & 1:
            return True
    for line in ipv6.splitlines():
        fields = line.split()
        default = len(fields) > 9 and fields[0] == "0" * 32 and fields[1] == "00"
        # The kernel lists a "reject" default on lo when there is no other; it has no gateway.
        if default and int(fields[8], 16) & _RTF_UP_GATEWAY == _RTF_UP_GATEWAY:
            return True
    return False


def parse_apt_proxies(text: str) -> dict[str, str]:
    """{"http": …, "https": …} from `apt-config dump`; "DIRECT" stands for no proxy."""
    found = re.findall(r'^Acquire::(https?)::Proxy "([^"]*)";', text, re.M | re.I)
    return {scheme.lower(): "" if url == "DIRECT" else url for scheme, url in found}


def without_password(url: str) -> str:
    """A proxy's address as it may be printed."""
    return re.sub(r"//[^/@]*@", "//***@", url)


def reach(targets: tuple[Target, ...], limit: float = LIMIT) -> Reach:
    """Try all `targets` at the same time and give up after `limit` seconds."""
    answers: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    apt = _apt_proxies() if any(target.apt for target in targets) else {}
    started = time.monotonic()
    for target in targets:
        # Not a pool: a name server that never answers must not hold up the end of the program.
        threading.Thread(
            target=lambda chosen: answers.put(_try(chosen, apt if chosen.apt else {}, limit)),
            args=(target,),
            daemon=True,
        ).start()
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < len({target.url for target in targets}):
        try:
            left = limit - (time.monotonic() - started)
            outcome = answers.get(timeout=max(left, 0.001))
        except queue.Empty:
            break
        outcomes[outcome.url] = outcome
    late = f"no answer within {limit:g} s"
    return Reach(
        default_route=parse_route(_read("/proc/net/route"), _read("/proc/net/ipv6_route")),
        outcomes=tuple(
            outcomes.get(target.url) or Outcome(target.url, False, late, "", limit)
            for target in targets
        ),
    )


def resolve(name: str, limit: float = NAME_LIMIT) -> tuple[str, ...]:
    """IPv4 addresses of a name or an address, as every program here gets them; none known: ()."""
    answers: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()

    def look() -> None:
        try:
            found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            found = []
        answers.put(tuple(dict.fromkeys(str(each[4][0]) for each in found)))

    threading.Thread(target=look, daemon=True).start()
    try:
        return answers.get(timeout=limit)
    except queue.Empty:
        return ()


class _NoRedirect(HTTPRedirectHandler):
    """A redirection proves that the server answers; following it would ask another."""

    def redirect_request(self, *_: object) -> None:
        return None


def _try(target: Target, apt: dict[str, str], limit: float) -> Outcome:
    started = time.monotonic()
    parts = urlsplit(target.url)
    proxies = {**ProxyHandler().proxies, **apt}  # type: ignore[attr-defined]
    handler = ProxyHandler({scheme: url for scheme, url in proxies.items() if url})
    proxy = without_password(proxies.get(parts.scheme, ""))
    opener = build_opener(
        handler, _NoRedirect(), HTTPSHandler(context=ssl.create_default_context())
    )
    # Some indexes and caches turn away a client without a name.
    request = Request(target.url, method="HEAD", headers={"User-Agent": "dozen"})  # noqa: S310
    try:
        opener.open(request, timeout=limit).close()
        reason = ""
    except HTTPError as error:
        refused = error.code == _PROXY_AUTHENTICATION or error.code >= 500
        reason = f"it answers {error.code} {error.reason}" if refused else ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = reason_in_words(error, parts.hostname or target.url)
    return Outcome(target.url, not reason, reason, proxy, round(time.monotonic() - started, 3))


def reason_in_words(error: BaseException, host: str) -> str:
    """Half a sentence for a person about why `host` was not reached."""
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return reason_in_words(error.reason, host)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return f"the name {host} does not resolve"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _apt_proxies() -> dict[str, str]:
    return parse_apt_proxies(ask("apt-config", "dump").output)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
