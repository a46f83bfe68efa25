"""The environment of OpenStack's client, and which server a name means."""

from __future__ import annotations

import errno
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from keystoneauth1 import exceptions as auth
from openstack.exceptions import ForbiddenException, HttpException, NotFoundException

from dozencloud.access import ssh
from dozencloud.access.client import environment, exports, find_server, need_on, refusal
from dozencloud.cli.common import Invocation
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.errors import Exit, Problem
from dozencloud.services.gateway import SENTENCES
from dozencloud.supervision import guard

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
    assert ssh.ssh(Cloud(tmp_path), "172.24.4.9", "uname") == [
        *("ssh", "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=30"),
        *("dozen@172.24.4.9", "uname"),
    ]


@pytest.mark.parametrize(
    ("status", "power", "mend"),
    [
        ("ACTIVE", 1, None),
        ("VERIFY_RESIZE", 1, None),
        ("SHUTOFF", 4, "Start it: openstack server start 'a b'"),
        ("PAUSED", 3, "See: dozen server explain 'a b'"),
    ],
)
def test_nobody_waits_for_a_server_that_is_off(status: str, power: int, mend: str | None) -> None:
    server = SimpleNamespace(name="a b", status=status, power_state=power)
    if mend is None:
        need_on(server)
        return
    with pytest.raises(Problem) as off:
        need_on(server)
    assert off.value.what == f"The server a b is {status}: nobody can log in to it."
    assert off.value.mend == mend


def nobody_listens() -> Exception:
    """As keystoneauth wraps it."""
    try:
        try:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        except OSError as refused:
            words = "Unable to connect to https://192.0.2.1:8443/identity: Max"
            raise auth.ConnectFailure(words) from refused
    except auth.ConnectFailure as error:
        found = auth.DiscoveryFailure(f"Please check that your auth_url is correct. {error}")
        found.__cause__ = error
        return found


def failed(details: str) -> HttpException:
    error = HttpException("Server Error for url: https://192.0.2.1/x", details=details)
    error.status_code = 503
    return error


def no_service() -> Exception:
    return failed(SENTENCES[503])


def wrong_authority() -> Exception:
    return auth.SSLError("SSL exception connecting to https://192.0.2.1: CERTIFICATE_VERIFY_FAILED")


@pytest.mark.parametrize(
    ("error", "student", "never", "later"),
    [
        (
            nobody_listens(),
            "The cloud at https://192.0.2.1:8443 does not answer (connection refused). "
            "Ask its administrator.",
            "The cloud's API does not answer yet (connection refused). Run: {} up",
            "The cloud's API does not answer any more (connection refused). Run: {} start",
        ),
        (
            no_service(),
            "The cloud at https://192.0.2.1 does not answer (status 503). Ask its administrator.",
            "The cloud's API does not answer yet (status 503). Run: {} up",
            "The cloud's API does not answer any more (status 503). Run: {} start",
        ),
        (
            wrong_authority(),
            "The certificate of the cloud at https://192.0.2.1 is not to be trusted. Its own "
            "authority signed it: ask its administrator for that file (ca.crt), and name it in "
            "clouds.yaml (cacert) or OS_CACERT.",
            "The cloud's API does not answer yet (the connection failed). Run: {} up",
            "The cloud's API does not answer any more (the connection failed). Run: {} start",
        ),
        (
            auth.Unauthorized("The request you have made requires authentication."),
            "The cloud does not take this user and password. See OS_CLOUD and clouds.yaml.",
            *[
                "The cloud does not take its administrator's password any more: somebody changed "
                "it, or {}/etc/secrets.json, where it is kept. To make it that of the file again, "
                "run: {} up"
            ]
            * 2,
        ),
    ],
    ids=["refused", "not running", "certificate", "password"],
)
def test_what_the_cloud_does_not_answer_is_said_in_our_words(
    error: Exception, student: str, never: str, later: str, tmp_path: Path
) -> None:
    cloud = Cloud(tmp_path)
    (tmp_path / "lib").mkdir()
    told = refusal(error, None)
    assert str(told) == student
    for registered, wanted in ((False, never), (True, later)):
        if registered:
            State.of(cloud).set("catalogue", "done")
        places = [str(tmp_path)] * (wanted.count("{}") - 1)
        told = refusal(error, cloud)
        assert str(told) == wanted.format(*places, cloud.command())
        assert told.code is Exit.DEGRADED


def test_what_a_service_says_itself_is_not_taken_for_silence(tmp_path: Path) -> None:
    told = refusal(failed("No cell database."), Cloud(tmp_path))
    assert told and told.what == "The cloud failed at this (503): No cell database."
