"""The environment of OpenStack's client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dozencloud.client import environment, exports

PASSWORD = "it's $HOME"


@pytest.fixture
def clouds_yaml(tmp_path: Path) -> Path:
    options = {
        "auth": {"auth_url": "https://x/identity/v3", "username": "admin", "password": PASSWORD},
        "region_name": "RegionOne",
        "interface": "public",
        "identity_api_version": 3,
        "cacert": "/ca.crt",
    }
    path = tmp_path / "it's a folder" / "clouds.yaml"
    path.parent.mkdir()
    path.write_text(json.dumps({"clouds": {"dozen": options}}))
    return path


def in_a_shell(lines: list[str], variable: str) -> str:
    script = "\n".join([*lines, f'printf %s "${variable}"'])
    env = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    return run.stdout


def test_another_clouds_settings_do_not_leak_in(clouds_yaml: Path) -> None:
    before = {"OS_PASSWORD": "x", "OS_COMPUTE_API_VERSION": "2.96", "HOME": "/root"}
    after = environment(before, clouds_yaml)
    assert "OS_PASSWORD" not in after
    assert after["OS_COMPUTE_API_VERSION"] == "2.96"
    assert (after["HOME"], after["OS_CLOUD"]) == ("/root", "dozen")


def test_a_shell_reads_the_lines(clouds_yaml: Path) -> None:
    lines = exports(clouds_yaml, Path("/opt/a b"))
    assert in_a_shell(lines, "OS_CLIENT_CONFIG_FILE") == str(clouds_yaml)
    assert in_a_shell(lines, "PATH") == "/opt/a b/bin:/usr/bin:/bin"


def test_a_shell_that_cannot_read_the_file_gets_it_all(clouds_yaml: Path) -> None:
    lines = exports(clouds_yaml, Path("/opt"), for_others=True)
    assert in_a_shell(lines, "OS_PASSWORD") == PASSWORD
    assert in_a_shell(lines, "OS_AUTH_URL") == "https://x/identity/v3"
    assert in_a_shell(lines, "OS_CLIENT_CONFIG_FILE") == ""
