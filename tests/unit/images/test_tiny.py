"""What the tiny image is made of, and what is said when it cannot be made."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from dozencloud.errors import Problem
from dozencloud.images.packages import apt
from dozencloud.images.tiny import direct

SOURCE = apt.Source("http://mirror.example/debian", "trixie", Path("/keys.gpg"))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("E: Failed to fetch http://m/x  Could not resolve 'm'", "cannot be resolved"),
        ("Err:1 http://m\n  Could not connect to m:80. - connect (111)", "does not answer"),
        ("E: Failed to fetch http://m  Connection refused", "does not answer"),
        ("E: The repository 'http://m trixie Release' is not signed.", "is not signed by a key"),
        ("W: GPG error: NO_PUBKEY 6ED0E7B82643E131", "is not signed by a key"),
        ("W: GPG error: m: BADSIG 6ED0E7B82643E131", "is not signed by a key"),
        ("E: Unable to locate package linux-image-cloud-arm64", "no package linux-image-cloud-"),
        ("E: Package 'gpiod' has no installation candidate", "no package gpiod in trixie"),
        ("E: Write error - write (28: No space left on device)", "disk became full"),
        ("E: You don't have enough free space in /x/.", "disk became full"),
        ("Err:2 404  Not Found\nE: '…' does not have a Release file.", "There is no Debian trixie"),
        ("E: Release file for m is not valid yet (invalid for another 3h)", "clock"),
        ("E: something new", "could not be fetched from http://mirror.example"),
    ],
)
def test_a_failed_download_is_one_sentence_and_a_mend(output: str, said: str) -> None:
    problem = apt.cause(output, SOURCE)
    assert said in problem.what
    assert problem.what.endswith(".")
    assert problem.mend
    assert problem.detail


def test_only_the_way_to_the_mirror_is_taken_from_the_host() -> None:
    dump = "\n".join(
        [
            'Acquire::http::Proxy "http://proxy:3142";',
            'Acquire::https "";',
            'Acquire::ForceIPv4 "true";',
            'Acquire::AllowInsecureRepositories "1";',
            'APT::Update::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";',
            'Acquire::httpx "1";',
            'Dir::Cache "var/cache/apt";',
        ]
    )
    assert apt.network_settings(dump) == [
        'Acquire::http::Proxy "http://proxy:3142";',
        'Acquire::ForceIPv4 "true";',
    ]


def test_missing_keys_are_found_before_any_download(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="signing keys"):
        direct.build("aarch64", tmp_path, keyring=tmp_path / "none.gpg")


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="aarch64 and armv7l, not for x86_64"):
        direct.build("x86_64", tmp_path)
    assert not list(tmp_path.iterdir())


def finished(cache: Path, name: str) -> Path:
    """A cached image as a build leaves it, with files of one byte."""
    folder = cache / name
    folder.mkdir(parents=True)
    for file in ("vmlinuz", "initrd.cpio", "state.qcow2"):
        (folder / file).write_text("x")
    about = {"architecture": "aarch64", "command_line": "c", "kernel_release": "6", "digest": "d"}
    direct._finish(folder, about)
    port = direct.PORTS["aarch64"]
    recipe = direct._recipe_digest(port, "trixie")
    (cache / f"tiny-aarch64-trixie-{recipe[:16]}").symlink_to(name)
    return folder


def test_a_cached_image_needs_neither_network_nor_keys(tmp_path: Path) -> None:
    folder = finished(tmp_path, "done")
    image = direct.build("aarch64", tmp_path, mirror="http://192.0.2.1", keyring=Path("/none"))
    assert image == direct.TinyImage(
        "aarch64",
        folder / "vmlinuz",
        folder / "initrd.cpio",
        folder / "state.qcow2",
        "c",
        "6",
        "d",
    )


@pytest.mark.parametrize("damage", ["initrd.cpio", "tiny.json"])
def test_a_cached_image_that_is_not_whole_is_not_trusted(tmp_path: Path, damage: str) -> None:
    (finished(tmp_path, "done") / damage).unlink()
    with pytest.raises(Problem, match="signing keys"):
        direct.build("aarch64", tmp_path, keyring=Path("/none"))


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".build-killed" / "apt").mkdir(parents=True)
    with pytest.raises(Problem, match="signing keys"):
        direct.build("aarch64", tmp_path, keyring=Path("/none"))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_digest_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    port = direct.PORTS["aarch64"]
    digest = direct._recipe_digest(port, "trixie")
    assert digest == direct._recipe_digest(port, "trixie")
    assert digest != direct._recipe_digest(port, "sid")
    assert digest != direct._recipe_digest(direct.PORTS["armv7l"], "trixie")
    monkeypatch.setattr(direct, "RECIPE", direct.RECIPE + 1)
    assert digest != direct._recipe_digest(port, "trixie")


def test_the_digest_follows_the_guests_files(monkeypatch: pytest.MonkeyPatch) -> None:
    port = direct.PORTS["aarch64"]
    before = direct._recipe_digest(port, "trixie")
    changed = {**direct.guest_files(), "etc/issue": b"other"}
    monkeypatch.setattr(direct, "guest_files", lambda: changed)
    assert before != direct._recipe_digest(port, "trixie")


def test_nobody_has_a_password() -> None:
    """`*` is in no hash, so nothing matches it; the rest keeps busybox from saying "bad salt"."""
    shadow = direct.guest_files()["var/lib/tiny/shadow"].decode()
    assert {line.split(":")[1] for line in shadow.splitlines()} == {"$6$locked$*"}


@pytest.mark.parametrize(
    "name", sorted(n for n, data in direct.guest_files().items() if data.startswith(b"#!"))
)
def test_guest_scripts_parse(name: str) -> None:
    done = subprocess.run(["sh", "-n", direct.GUEST / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def flattened(document: object, tmp_path: Path, *, indent: int | None = None) -> dict[str, str]:
    path = tmp_path / "meta_data.json"
    path.write_text(json.dumps(document, indent=indent))
    script = direct.GUEST / "usr/lib/tiny/json.awk"
    done = subprocess.run(["awk", "-f", script, path], capture_output=True, text=True, check=True)
    return dict(line.split("\t") for line in done.stdout.splitlines())


METADATA = {
    "uuid": "83679162-1378-4288-a2d4-70e13ec132aa",
    "hostname": "first.novalocal",
    "launch_index": 0,
    "admin_pass": 'a"b\\c/d{e}',
    "devices": [],
    "meta": {},
    "keys": [{"name": "mine", "data": "ssh-ed25519 AAAA you@there\n"}],
    "public_keys": {"my.key": "ssh-ed25519 AAAA+/= you@there Generated-by-Nova\n"},
    "note": "tab\tline\nend, [not] {json} \u00e9",
}


@pytest.mark.parametrize("indent", [None, 2])
def test_the_guest_reads_novas_metadata(tmp_path: Path, indent: int | None) -> None:
    assert flattened(METADATA, tmp_path, indent=indent) == {
        "uuid": "83679162-1378-4288-a2d4-70e13ec132aa",
        "hostname": "first.novalocal",
        "launch_index": "0",
        "admin_pass": 'a"b\\c/d{e}',
        "keys.0.name": "mine",
        "keys.0.data": "ssh-ed25519 AAAA you@there",
        "public_keys.my.key": "ssh-ed25519 AAAA+/= you@there Generated-by-Nova",
        "note": "tab line end, [not] {json} ?",
    }


def test_secrets_in_the_initramfs_are_for_root_alone(tmp_path: Path) -> None:
    modes = {
        entry.name: stat.S_IMODE(entry.mode) for entry in direct.own_files(direct.guest_files())
    }
    assert modes["var/lib/tiny/shadow"] == 0o600
    assert modes["etc/init.d/rcS"] == 0o755
    assert modes["etc/inittab"] == 0o644
    assert modes["."] == 0o755
