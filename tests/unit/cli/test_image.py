"""`dozen image`: what a person reads."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from images_kit import arm64_image, bzimage

from dozencloud.cli import cli
from dozencloud.cli.image import local, named
from dozencloud.errors import Problem
from dozencloud.images.catalogue import Choice, load


def dozen(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(arm64_image("6.12.0-arm64") + bytes(4096))
    return path


def test_inspect_tells_what_it_is(kernel: Path) -> None:
    said = dozen("image", "inspect", str(kernel))
    assert said.exit_code == 0, said.output
    assert "Architecture  aarch64\n" in said.output
    assert "Boots         by its kernel, which QEMU loads\n" in said.output
    assert "EFI system partition" not in said.output


def test_inspect_for_programs(kernel: Path) -> None:
    said = dozen("image", "inspect", str(kernel), "--json")
    assert json.loads(said.stdout)["arch"] == "aarch64"


def test_what_cannot_start_ends_with_status_1_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage())
    said = dozen("image", "inspect", str(path))
    assert said.exit_code == 1
    assert "Boots         no: This is a kernel for x86-64" in said.output


def test_a_damaged_file_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "disk.img.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 4096)[:-500])
    said = dozen("image", "inspect", str(path))
    assert said.exit_code == 1
    assert "disk.img.gz cannot be used: " in said.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("inspect", "/no/such.img"), "There is no file /no/such.img."),
        (("get", "ubunto-24.04", "--download", "."), "There is no image ubunto-24.04"),
        (("get", "ubuntu-24.04", "--arch", "pdp11"), "There is no architecture called pdp11."),
        (("build", "debian-99"), "The distribution 'debian-99' cannot be built."),
        (("build", "debian-13", "--arch", "armel"), "Debian has no armel kernel"),
    ],
)
def test_mistakes_are_said_in_one_sentence(words: tuple[str, ...], reason: str) -> None:
    said = dozen("image", *words)
    assert said.exit_code != 0
    assert reason in said.stderr


def test_the_catalogue_is_listed() -> None:
    lines = dozen("image", "list", "--available", "--arch", "armhf").output.splitlines()
    assert lines[0].split() == ["NAME", "TITLE", "ARCHITECTURES", "FOR", "USER"]
    assert all("armv7l" in line for line in lines[1:])
    assert any(line.startswith("ubuntu-24.04 ") for line in lines)
    every = json.loads(dozen("image", "list", "--available", "--json").output)
    assert len(every) > len(lines)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("\U0001f980", "There is no file \U0001f980."),
        ("a" * 300, "There is no file a"),
        ("a\udcff", "There is no file a"),
        ("/tmp", "/tmp is a folder."),  # noqa: S108  (one that is there)
        ("/dev/zero", "/dev/zero is a device."),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "import"])
def test_odd_words_for_a_file(command: str, word: str, reason: str, tmp_path: Path) -> None:
    if command == "import":
        with pytest.raises(Problem, match=re.escape(reason)), local(word, lambda *_: None):
            pass
        return
    said = dozen("image", command, word)
    assert said.exit_code == 1
    assert reason in said.stderr


def test_a_container_has_a_name_of_its_own() -> None:
    entries = load()
    names = {
        named(Choice(entry, file, arch))
        for entry in entries
        for file in entry.files
        for arch in file.arch
    }
    assert len(names) == sum(len(file.arch) for entry in entries for file in entry.files)
    assert {"ubuntu-24.04", "ubuntu-24.04-armv7l", "ubuntu-24.04-container"} <= names
