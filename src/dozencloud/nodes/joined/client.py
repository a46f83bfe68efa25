"""What a node says to its controller: HTTPS, with the CA whose fingerprint was in the token."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from cryptography import x509

from dozencloud.cloud import certificates
from dozencloud.errors import Exit, Problem
from dozencloud.nodes.tokens import Reason, Refused, Token

SECONDS = 30
JOIN_SECONDS = 120
"""The controller may first have to open its ports, with a busy machine."""


@dataclass(frozen=True)
class Controller:
    """The API below /nodes of one controller. ca: file with the certificate of its authority."""

    url: str
    ca: Path

    def join(self, request: Mapping[str, str]) -> dict[str, Any]:
        return self._post("join", request, seconds=JOIN_SECONDS)

    def report(self, name: str, secret: str, report: Mapping[str, Any]) -> dict[str, Any]:
        return self._post("report", report, (name, secret))

    def lacking(self, name: str, secret: str) -> str:
        """What the node waits for until servers can be placed on it; empty if they can."""
        said = self._post("state", {}, (name, secret))
        # A controller of the series before does not say what.
        return "" if said["nova"] else str(said.get("lacking", "Nova to list this node as up"))

    def release(self, name: str, secret: str) -> str:
        """The controller's."""
        return str(self._post("state", {}, (name, secret))["release"])

    def certificate(self, name: str, secret: str, csr: str) -> str:
        return str(self._post("certificate", {"csr": csr}, (name, secret))["certificate"])

    def peers(self, name: str, secret: str, csr: str) -> dict[str, Any]:
        return self._post("peers", {"csr": csr}, (name, secret))

    def leave(self, name: str, secret: str) -> None:
        self._post("leave", {}, (name, secret))

    def _post(
        self,
        what: str,
        data: Mapping[str, Any],
        account: tuple[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        with session() as client:
            try:
                answer = client.post(
                    f"{self.url}/nodes/v1/{what}",
                    json=data,
                    auth=account,
                    verify=str(self.ca),
                    timeout=seconds,
                )
            except requests.RequestException as error:
                raise unreachable(self.url, error) from error
        return _content(self.url, answer)


def session() -> requests.Session:
    """Straight to the controller: proxies of the environment are for the world outside."""
    made = requests.Session()
    made.trust_env = False
    return made


def _content(url: str, answer: requests.Response) -> dict[str, Any]:
    """The JSON object in the answer; the controller's own sentence is raised as a Problem."""
    try:
        said = dict(answer.json())
        if answer.ok:
            return said
        what, mend = str(said["what"]), str(said["mend"])
        if answer.status_code != 403:
            raise Problem(what, mend)
        reason = str(said.get("reason", ""))
        known = reason in list(Reason)
        raise Refused(what, mend, reason=Reason(reason) if known else Reason.OTHER)
    except (ValueError, KeyError, TypeError):
        pass
    if answer.status_code == 404:
        raise Problem(
            f"The cloud at {url} takes no nodes.",
            "Make a token on the controller first: sudo ./dozen node token",
        )
    if answer.status_code in (429, 502, 503, 504):
        raise Problem(
            f"The controller at {url} is there, but takes no nodes just now.",
            "See on it: dozen status, and dozen logs nodes.",
        )
    raise Problem(
        f"{url} answered {answer.status_code}, and not as a controller does.",
        "Use the address that `dozen node token` printed.",
        detail=answer.text[:300],
    )


def unreachable(url: str, error: requests.RequestException) -> Problem:
    """Why the controller could not be asked."""
    host, reason = urlsplit(url).netloc, _reason(error)
    if isinstance(error, requests.exceptions.SSLError):
        return Problem(
            f"The certificate of {host} is not good: {reason}.",
            "Use the address that `dozen node token` printed, and look at this machine's clock.",
        )
    return Problem(
        f"The controller {host} cannot be reached: {reason}.",
        "Look at the cable, the address, and whether the controller runs: dozen status",
    )


def _reason(error: BaseException) -> str:
    """The innermost cause, in few words; requests and urllib3 wrap it several times."""
    inner = error
    while found := getattr(inner, "reason", None) or inner.__cause__ or inner.__context__:
        if not isinstance(found, BaseException):
            break
        inner = found
    if isinstance(inner, TimeoutError | requests.Timeout):
        return "no answer came"
    return str(getattr(inner, "verify_message", "") or getattr(inner, "strerror", "") or inner)


def checked_url(text: str) -> str:
    """The controller's address as people may type it, as a URL; Problem (USAGE) on a wrong one."""
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url.rstrip("/"))
        whole = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        parts, whole = urlsplit(""), False
    if not whole or parts.path or parts.query or parts.username:
        raise Problem(
            f"{text} is not the address of a controller.",
            "It looks like https://192.168.1.10, as `dozen node token` printed it.",
            code=Exit.USAGE,
        )
    return f"https://{parts.netloc}"


def meet(url: str, token: Token) -> tuple[bytes, float]:
    """The controller's CA, PEM, if it is the one that the token names; and its clock.

    Nothing secret is said before: the connection is trusted only once the fingerprint fits.
    """
    with session() as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        try:
            # The fingerprint below is what is trusted.
            answer = client.get(f"{url}/ca.crt", verify=False, timeout=SECONDS)
        except requests.RequestException as error:
            raise unreachable(url, error) from error
    pem, date = answer.content, answer.headers.get("Date", "")
    try:
        found = certificates.fingerprint(x509.load_pem_x509_certificate(pem))
        clock = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError) as error:
        text = f"What answers at {url} is no DozenCloud."
        raise Problem(text, "Use the address that `dozen node token` printed.") from error
    if found != token.authority:
        raise Problem(
            f"What answers at {url} is not the cloud that made this token.",
            "Either the address is wrong, or somebody stands between: nothing was sent to it.",
        )
    return pem, clock
