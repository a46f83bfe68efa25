"""Keystone's policy is there before the first request."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import dozencloud

PROGRAM = """
import keystone.wsgi.api
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer


def made():
    enforcer = vars(RBACEnforcer()).get("_RBACEnforcer__ENFORCER")
    return enforcer is not None and "identity:validate_token" in enforcer.registered_rules


print(made())
import dozencloud.hooks.keystone
print(made())
"""
"""Whether the rule by which tokens are checked is there: with upstream's API, and with ours."""


def test_the_first_request_finds_the_rules_which_upstream_makes_then(tmp_path: Path) -> None:
    (tmp_path / "0").write_text(base64.urlsafe_b64encode(bytes(32)).decode())
    tmp_path.chmod(0o700)
    (tmp_path / "keystone.conf").write_text(
        "[database]\nconnection = sqlite://\n"
        f"[fernet_tokens]\nkey_repository = {tmp_path}\n"
        f"[fernet_receipts]\nkey_repository = {tmp_path}\n"
        f"[credential]\nkey_repository = {tmp_path}\n"
    )
    source = str(Path(dozencloud.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env={**os.environ, "OS_KEYSTONE_CONFIG_DIR": str(tmp_path), "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
