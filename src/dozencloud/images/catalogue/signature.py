"""OpenPGP signatures, checked with gpgv against one keyring and pinned fingerprints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dozencloud.errors import Exit, Problem
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.images.catalogue.entries import Key

GPGV = "gpgv"
SECONDS = 60.0


def check(key: Key, what: str, data: Path, signature: Path) -> str:
    """Who signed `data` (a detached signature); a Problem if it was none of the key's owners.

    what: the signed file, for the person.
    """
    done = _gpgv(key, what, [str(signature), str(data)])
    return _judge(what, done, _signer(done.stdout, key.fingerprints))


def open_clearsigned(key: Key, what: str, signed: Path, plain: Path) -> str:
    """As `check`; what was signed, without anything around it, is written to `plain`.

    gpgv must be content with the whole file here: what a second message says is not signed by the
    first one's signature.
    """
    done = _gpgv(key, what, ["--output", str(plain), str(signed)])
    signer = "" if done.returncode else _signer(done.stdout, key.fingerprints)
    return _judge(what, done, signer)


def require(key: Key, what: str) -> None:
    """A Problem if signatures by this key cannot be checked on this machine."""
    if shutil.which(GPGV) is None:
        raise Problem(
            f"The signature of {what} cannot be checked: gpgv is not installed.",
            f"Run `{registry.here().to_install(Need.SIGNATURES)}`.",
            code=Exit.UNFIT,
        )
    if not key.file.is_file():
        raise Problem(
            f"The signature of {what} cannot be checked: there is no key {key.file}.",
            key.get or "Install DozenCloud again: the key is part of it.",
            code=Exit.UNFIT,
        )


def _gpgv(key: Key, what: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    require(key, what)
    command = [GPGV, "--status-fd", "1", "--keyring", str(key.file), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS
    )


def _judge(what: str, done: subprocess.CompletedProcess[str], signer: str) -> str:
    if signer:
        return signer
    raise Problem(
        f"The signature of {what} is not valid: {_reason(done.stdout)}.",
        "Do not use that image. Try again, or another mirror; if it stays so, tell the publisher.",
        detail=done.stderr.strip(),
    )


def _signer(status: str, fingerprints: tuple[str, ...]) -> str:
    """The name on a good signature by one of these keys, and its fingerprint; empty if none is.

    Status lines: doc/DETAILS of GnuPG. GOODSIG is for keys that are neither expired nor revoked;
    the VALIDSIG that follows ends with the primary key's fingerprint. A second signature by a key
    that we do not know (publishers change keys that way) harms nothing; a bad one does.
    """
    name, signer = "", ""
    for line in status.splitlines():
        words = line.split()
        match words[1:]:
            case ["BADSIG", *_]:
                return ""
            case ["GOODSIG", _, *who]:
                name = " ".join(who)
            case ["EXPSIG" | "EXPKEYSIG" | "REVKEYSIG" | "ERRSIG" | "NEWSIG", *_]:
                name = ""
            case ["VALIDSIG", *_, primary] if name and primary in fingerprints:
                signer = f"{name} ({primary})"
    return signer


_REASONS = {
    "BADSIG": "the file was changed after it was signed",
    "EXPKEYSIG": "the key has expired since",
    "EXPSIG": "the signature has expired",
    "REVKEYSIG": "the key was revoked",
    "NO_PUBKEY": "an unknown key made it",
    "ERROR": "it has more than one message",
    "VALIDSIG": "a key made it that does not belong to the publisher",
}


def _reason(status: str) -> str:
    words = {line.split()[1] for line in status.splitlines() if len(line.split()) > 1}
    return next((why for word, why in _REASONS.items() if word in words), "it is no signature")
