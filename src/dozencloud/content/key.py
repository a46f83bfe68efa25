"""The SSH key of a new cloud's servers."""

from __future__ import annotations

from typing import Any

from dozencloud.access.ssh import KeyFiles
from dozencloud.private import write_private

KEYPAIR = "dozen"
"""Its name in Nova."""


def there(compute: Any) -> bool:
    return compute.find_keypair(KEYPAIR) is not None


def bring(compute: Any, files: KeyFiles) -> None:
    """An SSH key made here, private part readable by root only."""
    key, public = files.key, files.key.with_suffix(".pub")
    if not (key.exists() and public.exists()):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        made = Ed25519PrivateKey.generate()
        key.parent.mkdir(mode=0o700, exist_ok=True)
        openssh = made.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        write_private(public, openssh + b" dozen\n", 0o644)
        write_private(
            key,
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
        )
    text = public.read_text().strip()
    known = compute.find_keypair(KEYPAIR)
    if known and known.public_key.strip() != text:
        compute.delete_keypair(known)
        known = None
    if not known:
        compute.create_keypair(name=KEYPAIR, public_key=text)
