"""TLS in a cloud: by which suites it is spoken, and where its certificates lie."""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud.installation import Cloud

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2, for OpenSSL; those of 1.3 are all good. Forward secret and authenticated (AEAD), for
the keys that are made here."""
PRIORITY = (
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA"
    ":-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"
)
"""The same for GnuTLS."""


def folder(cloud: Cloud) -> Path:
    return cloud.etc / "tls"


def make_folder(cloud: Cloud) -> None:
    """Where certificates are: everybody passes through to the authority's, and lists nothing."""
    folder(cloud).mkdir(exist_ok=True)
    folder(cloud).chmod(0o711)
