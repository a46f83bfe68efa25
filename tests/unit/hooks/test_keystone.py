"""Keystone's policy is there before the first request."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import dozencloud

PROGRAM = """
import {module}
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer

made = vars(RBACEnforcer()).get("_RBACEnforcer__ENFORCER")
print(made is not None and "identity:validate_token" in made.registered_rules)
"""


def rules_after_import(module: str, folder: Path) -> bool:
    """Whether the rule by which tokens are checked is there once the module is."""
    (folder / "0").write_text(base64.urlsafe_b64encode(bytes(32)).decode())
    folder.chmod(0o700)
    (folder / "keystone.conf").write_text(
        "[database]\nconnection = sqlite://\n"
        f"[fernet_tokens]\nkey_repository = {folder}\n"
        f"[fernet_receipts]\nkey_repository = {folder}\n"
        f"[credential]\nkey_repository = {folder}\n"
    )
    source = str(Path(dozencloud.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module)],
        env={**os.environ, "OS_KEYSTONE_CONFIG_DIR": str(folder), "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split() == ["True"]


def test_the_first_request_finds_the_rules(tmp_path: Path) -> None:
    assert rules_after_import("dozencloud.hooks.keystone", tmp_path)


def test_upstream_makes_them_at_the_first_request(tmp_path: Path) -> None:
    assert not rules_after_import("keystone.wsgi.api", tmp_path)
