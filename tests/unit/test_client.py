"""The environment of OpenStack's client, and which server a name means."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from openstack.exceptions import ForbiddenException, NotFoundException

from dozencloud import guard, seed
from dozencloud.cli.common import Invocation
from dozencloud.client import environment, exports, find_server
from dozencloud.cloud import Cloud
from dozencloud.errors import Exit, Problem

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


ID = "5a1c7f0e-8a4f-4d3b-9d55-0d6d0c4f5a1c"


class Compute:
    """Nova's answers, which need a whole cloud; its filter is a regular expression, and guarded."""

    def __init__(self, servers: list[tuple[str, str, str]], *, admin: bool) -> None:
        self.all = [
            SimpleNamespace(id=i, name=n, project_id=p, status="ACTIVE") for i, n, p in servers
        ]
        self.admin = admin

    def get_server(self, id: str) -> Any:
        for server in self.all:
            if server.id == id and (self.admin or server.project_id == "own"):
                return server
        raise NotFoundException

    def servers(self, *, name: str, all_projects: bool = False) -> Iterator[Any]:
        guard.check_query(urlencode({"name": name}), patterns=True)
        if all_projects and not self.admin:
            raise ForbiddenException
        for server in self.all:
            if re.search(name, server.name) and (all_projects or server.project_id == "own"):
                yield server


def sdk(*servers: tuple[str, str, str], admin: bool = True) -> Any:
    def get_project(id: str) -> Any:
        if not admin:
            raise ForbiddenException
        return SimpleNamespace(name=f"course {id}")

    return SimpleNamespace(
        compute=Compute([*servers], admin=admin),
        identity=SimpleNamespace(get_project=get_project),
        current_project_id="own",
    )


NAMES = ("lab (1)", "Schüler 01", "日本", "a.b", "a|b", "^$", "x" * 255, "[", "\\", "-x", "1.2.3.4")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("project", ["own", "students"])
def test_an_administrator_finds_every_name(name: str, project: str) -> None:
    cloud = sdk(("1", name, project), ("2", f"{name}2", project), ("3", "axb", "own"))
    assert find_server(cloud, name).id == "1"


def test_a_user_finds_what_is_his() -> None:
    cloud = sdk(("1", "web", "own"), ("2", "db", "other"), (ID, "x", "other"), admin=False)
    assert find_server(cloud, "web").id == "1"
    for theirs in ("db", ID):
        with pytest.raises(Problem, match="There is no server called"):
            find_server(cloud, theirs)


def test_an_id_is_a_name_too() -> None:
    assert find_server(sdk((ID, "web", "students")), ID).name == "web"
    assert find_server(sdk(("1", ID, "students")), ID).id == "1"


@pytest.mark.parametrize("name", ["", "😀 lab", "x" * 256, "nobody", "\x1b[2J"])
def test_names_that_no_server_has(name: str) -> None:
    with pytest.raises(Problem, match="There is no server called"):
        find_server(sdk(("1", "web", "own")), name)


def test_of_several_the_user_chooses() -> None:
    with pytest.raises(Problem) as choice:
        find_server(sdk(("1", "web", "a"), ("2", "web", "b")), "web")
    assert choice.value.what == "2 servers are called web."
    assert choice.value.detail.splitlines() == [
        "1  ACTIVE  project course a",
        "2  ACTIVE  project course b",
    ]
    with pytest.raises(Problem) as choice:
        find_server(sdk(("1", "web", "own"), ("2", "web", "own"), admin=False), "web")
    assert choice.value.detail.splitlines() == ["1  ACTIVE", "2  ACTIVE"]


def test_ones_own_server_comes_first() -> None:
    """A student who calls a server `first` does not stand in the way to it."""
    assert find_server(sdk(("1", "first", "students"), ("2", "first", "own")), "first").id == "2"


def test_a_user_of_the_cloud_is_not_sent_to_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OS_CLOUD", raising=False)
    monkeypatch.delenv("OS_AUTH_URL", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Problem) as nobody:
        Invocation(Path("/none")).connection("ssh", "web")
    assert nobody.value.code is Exit.UNFIT
    assert "set OS_CLOUD" in nobody.value.mend
    monkeypatch.setenv("OS_CLOUD", "course")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    auth = {"auth_url": "https://x/identity/v3", "username": "s", "password": "p"}
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"course": {"auth": auth}}}))
    connection = Invocation(Path("/none")).connection("ssh", "web")
    assert connection.config.name == "course"
    # With the keys that ssh knows: the cloud's own is not for them.
    assert seed.ssh(Cloud(tmp_path), "172.24.4.9", "uname") == [
        *("ssh", "-o", "StrictHostKeyChecking=accept-new", "dozen@172.24.4.9", "uname")
    ]
