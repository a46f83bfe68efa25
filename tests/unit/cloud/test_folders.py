"""What of a cloud is open, by the list."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dozencloud.cloud import folders
from dozencloud.cloud.installation import Cloud
from dozencloud.locks import open_lock
from dozencloud.private import aside


def rights(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_folders_of_a_release_before_are_closed(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    for folder in cloud.folders:
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    for name in ("etc/tls", "etc/nodes", "lib/cache", "lib/backups"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    files = ("etc/cloud.toml", "etc/tls/ca.crt", "etc/tls/gateway.crt", "lib/lock", "lib/node.json")
    for name in (*files, "log/nova-api.log", "run/supervisord.pid"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    folders.make_folders(cloud, "no-such-group")
    assert {path.name: rights(path) for path in cloud.folders} == {
        "etc": "0o711",
        "lib": "0o711",
        "log": "0o700",
        "run": "0o710",
    }
    assert rights(tmp_path / "etc/tls") == "0o711"
    assert {rights(tmp_path / name) for name in ("etc/nodes", "lib/cache", "lib/backups")} == {
        "0o700"
    }
    open_ones = {path for path in tmp_path.rglob("*") if path.is_file() and "644" in rights(path)}
    assert open_ones == set(folders.readable(cloud))


def test_what_everybody_may_read_stays_so_while_it_is_written(tmp_path: Path) -> None:
    """A task writes the authority's certificate while another closes the folders."""
    cloud = Cloud(tmp_path)
    cloud.ca.parent.mkdir(parents=True)
    half = aside(cloud.ca)
    half.write_text("")
    half.chmod(0o644)
    cloud.file.write_text("")
    cloud.file.chmod(0o600)
    folders.make_folders(cloud, "no-such-group")
    assert rights(half) == "0o644"
    assert rights(cloud.file) == "0o644", "closed by a release that did not wait for it"


def test_each_entry_has_a_reason() -> None:
    assert all(why and not why.endswith(".") for why in folders.READABLE.values())
    assert all(why for why in folders.PASSED.values())
    cloud = Cloud()
    assert Path("/etc/dozencloud/tls/ca.crt") in folders.readable(cloud)
    assert cloud.ca in folders.readable(cloud)


def test_a_lock_is_its_owners_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("17\n")
    path.chmod(0o666)
    with open_lock(path) as file:
        assert file.read() == "17\n"
        assert not os.get_inheritable(file.fileno())
    assert rights(path) == "0o600"
    path.unlink()
    before = os.umask(0)
    try:
        open_lock(path).close()
    finally:
        os.umask(before)
    assert rights(path) == "0o600"
