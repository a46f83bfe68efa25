"""The dry start of a 32-bit guest, against the real QEMU."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dozencloud.compute.drystart import User, command, starts
from dozencloud.facts.kvm import kvm

pytestmark = pytest.mark.functional

QEMU = shutil.which("qemu-system-aarch64")
NOBODY = User(65534, 65534)


@pytest.fixture
def words() -> list[str]:
    if QEMU is None:
        pytest.skip("needs qemu-system-aarch64")
    if os.geteuid():
        pytest.skip("needs root")
    return command(Path(QEMU), sorted(os.sched_getaffinity(0)))


def test_qemu_that_comes_up_says_so(words: list[str]) -> None:
    emulated = {
        "kvm": "tcg",
        "virt,gic-version=host": "virt",
        "host,aarch64=off,sve=off": "cortex-a15",
    }
    assert starts([emulated.get(word, word) for word in words], NOBODY) is True


def test_what_qemu_refuses(words: list[str]) -> None:
    if kvm().aarch32_el1:
        pytest.skip("KVM here runs 32-bit ARM guests")
    assert starts(words, NOBODY) is False


def test_cpus_that_are_not_there(words: list[str]) -> None:
    words[words.index("-c") + 1] = "4095"
    assert starts(words, NOBODY) is False


def test_no_qemu() -> None:
    assert starts(["/nonexistent"], User(os.geteuid(), os.getegid())) is None
