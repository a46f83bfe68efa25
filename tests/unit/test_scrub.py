"""What users are told of failures names no file and no command."""

from __future__ import annotations

import pytest

from dozencloud.scrub import FILE, scrub

UNCHANGED = [
    "Flavor's disk is too small for requested image.",
    "No image /v2/images/1 at http://etc.example.org/etc/passwd",
    "either/or",
    "see https://host/var/lib/x",
]


@pytest.mark.parametrize("text", UNCHANGED)
def test_other_words_stay(text: str) -> None:
    assert scrub(text) == text


def test_files_and_commands_go() -> None:
    text = (
        "Image /var/lib/dozencloud/compute/instances/_base/abc.part is unacceptable: Unexpected "
        "error while running command.\nCommand: /usr/bin/python3 -m x -- qemu-img info /opt/y/z\n"
        "Exit code: 1\nStderr: \"qemu-img: Could not open '/opt/y/z': denied\""
    )
    clean = scrub(text)
    assert "/var" not in clean
    assert "/opt" not in clean
    assert "qemu-img info" not in clean
    assert clean.startswith(f"Image {FILE} is unacceptable")
    assert "Exit code: 1" in clean
