"""The measuring program: rebuilt, and run for every architecture."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from dozencloud.guestbench import run
from dozencloud.guestbench.results import MEASURES, Machine, Result, parse
from dozencloud.images.formats.elf import Elf

pytestmark = [pytest.mark.functional, pytest.mark.timeout(200)]

COMPILER = "Debian clang version 14.0.6"
"""What the programs in the repository were compiled with: Debian 12's."""

EMULATORS = {
    "bench-aarch64": "qemu-aarch64-static",
    "bench-arm": "qemu-arm-static",
    "bench-riscv64": "qemu-riscv64-static",
    "bench-x86_64": "qemu-x86_64-static",
}
NATIVE = run.PROGRAM_FOR.get(platform.machine())


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    subprocess.run([run.PROGRAMS / "build", folder], check=True, timeout=120)
    return folder


def compiler() -> str:
    said = subprocess.run(["clang", "--version"], check=True, capture_output=True, text=True)
    return said.stdout.splitlines()[0].strip()


def test_the_programs_are_what_the_source_compiles_to(rebuilt: Path) -> None:
    """Byte for byte with the same compiler."""
    assert sorted(path.name for path in rebuilt.iterdir()) == sorted(EMULATORS)
    if compiler() != COMPILER:
        pytest.skip(f"they were compiled with {COMPILER}, this is {compiler()}")
    for name in EMULATORS:
        assert (rebuilt / name).read_bytes() == (run.PROGRAMS / name).read_bytes(), name


def measured(program: Path) -> Result:
    """The result of a program that is run here, whatever its architecture."""
    words = [str(program)] if program.name == NATIVE else [EMULATORS[program.name], str(program)]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=100)
    machine = Machine(program.name, "", "", "", 1)
    return parse(machine, None, done.stdout.splitlines(), watched=1.0)


@pytest.mark.parametrize("name", EMULATORS)
def test_every_measure_on_every_architecture(name: str, rebuilt: Path) -> None:
    result = measured(rebuilt / name)
    assert {figure.measure.name for figure in result.figures} >= {m.name for m in MEASURES}
    assert all(sample > 0 for figure in result.figures for sample in figure.samples)
    assert all(len(figure.samples) == 15 for figure in result.figures)
    assert [f.parameter for f in result.latencies] == [4096 << n for n in range(15)]
    assert result.latencies[-1].best > result.latencies[0].best, "memory is slower than cache"
    assert {c.name for c in result.counters} == {"cycles", "instructions", "cache-misses"}
    assert result.backwards == 0
    assert result.elapsed > 0
    assert result.left_out == ()


def test_this_machine_is_measured_by_the_same_way() -> None:
    if NATIVE is None:
        pytest.skip(f"no program for {platform.machine()}")
    result = run.measure(run.Target("here"))
    assert result.machine.architecture == platform.machine()
    assert result.machine.kernel == platform.release()
    assert result.machine.cpus > 0
    assert result.elapsed <= result.watched * 1.05
    assert not list(Path.home().glob(".dozen-bench.*"))


def test_the_programs_need_no_library() -> None:
    """They run on whatever Linux is in a guest."""
    for name in EMULATORS:
        program = (run.PROGRAMS / name).read_bytes()
        elf = Elf(program)
        assert (elf.interpreter, list(elf.needed)) == (None, []), name
        assert len(program) < 20_000, name
