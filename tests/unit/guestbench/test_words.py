"""Measuring servers: what the program prints, the comparison, the table, the picture, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dozencloud.cli import cli
from dozencloud.errors import Exit, Problem
from dozencloud.guestbench import run
from dozencloud.guestbench.picture import svg
from dozencloud.guestbench.results import (
    BY_NAME,
    MEASURES,
    Counter,
    Figure,
    Machine,
    Result,
    clock,
    counters,
    parse,
    parse_machine,
    size_text,
)
from dozencloud.guestbench.run import Login, Target, program_for, why
from dozencloud.guestbench.table import compared, number, plain

SVG = "{http://www.w3.org/2000/svg}"
GUEST = Machine("guest", "aarch64", "6.12", "Cortex-A57", 1, "emulated")
HOST = Machine("this machine", "x86_64", "6.18", "AMD EPYC", 2)
GUEST_SAID = """\
dozenbench 0
clock 1 0
sample integer 0 2000 1000
sample integer 0 2000 2000
sample integer 0 2000 4000
sample syscall 0 10 20000
late fork 0
sample read 16777216 16777216 16777216
sample latency 8192 100 900
sample latency 4096 100 400
small latency 67108864
counter cycles error 2
counter instructions error 2
counter cache-misses error 2
counted 2000 1000
end 5000000000
"""
HOST_SAID = """\
dozenbench 1
clock 1 0
sample integer 0 8000 1000
sample syscall 0 10 1000
sample fork 0 1 50000
sample read 16777216 33554432 16777216
sample latency 4096 100 100
sample latency 8192 100 150
sample latency 67108864 100 9000
counter cycles 2600 1000 1000
counter instructions 5200 1000 1000
counter cache-misses 3 1000 1000
counted 4000 1000
end 5000000000
"""


def said(text: str, machine: Machine = GUEST) -> Result:
    return parse(machine, 2, text.splitlines(), watched=5.0)


def pair() -> tuple[Result, Result]:
    return said(HOST_SAID, HOST), said(GUEST_SAID)


# ---- what the program prints -----------------------------------------------------------------


def test_figures_in_their_units() -> None:
    guest = said(GUEST_SAID)
    assert {(f.measure.name, f.parameter): f.best for f in guest.figures} == {
        ("integer", 0): 2000.0,  # million operations a second
        ("syscall", 0): 2000.0,  # ns
        ("read", 16777216): 1000.0,  # MB/s
        ("latency", 8192): 9.0,
        ("latency", 4096): 4.0,
    }
    assert [f.parameter for f in guest.latencies] == [4096, 8192]
    assert [f.measure.name for f in guest.plain] == ["integer", "read", "syscall"]
    assert said(HOST_SAID).figure("fork", 0).best == 50.0  # type: ignore[union-attr]  # µs


def test_spread_is_the_middle_half_against_the_median() -> None:
    figure = Figure(BY_NAME["syscall"], 0, (80.0, 90.0, 100.0, 110.0, 500.0))
    assert (figure.median, figure.spread) == (100.0, 0.2)
    assert replace(figure, samples=(100.0,)).spread == 0.0


def test_what_was_left_out_is_said_with_its_reason() -> None:
    assert said(GUEST_SAID).left_out == (
        "process, start and end (no time was left)",
        "memory latency of 64 MiB (not enough memory)",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        GUEST_SAID.replace("end 5000000000\n", ""),
        "dozenbench 0\nend 5\n",
        GUEST_SAID.replace("10 20000", "ten 20000"),
        GUEST_SAID.replace("10 20000", "0 20000"),
    ],
)
def test_lines_that_the_program_never_prints(text: str) -> None:
    with pytest.raises(Problem, match="never prints"):
        said(text)


def test_a_failure_inside() -> None:
    with pytest.raises(Problem, match="mmap failed with ENOMEM"):
        said("dozenbench 0\nfailed mmap 12\n")


@pytest.mark.parametrize(
    ("lines", "machine", "paranoid"),
    [
        (
            [
                *("motd", "machine aarch64", "kernel 6.12", "paranoid 3"),
                *("cpuinfo processor : 0", "cpuinfo CPU implementer : 0x41"),
                *("cpuinfo CPU part : 0xd07", "cpuinfo "),
                *("cpuinfo processor : 1", "cpuinfo CPU implementer : 0x41"),
                "cpuinfo CPU part : 0xd03",
            ],
            Machine("s", "aarch64", "6.12", "Cortex-A57 + Cortex-A53", 2, "KVM"),
            3,
        ),
        (
            [
                *("machine x86_64", "kernel 6", "paranoid "),
                *("cpuinfo processor : 0", "cpuinfo model name : AMD EPYC"),
            ],
            Machine("s", "x86_64", "6", "AMD EPYC", 1, "KVM"),
            None,
        ),
        (["paranoid -1"], Machine("s", "", "", "", 0, "KVM"), -1),
    ],
)
def test_who_answers(lines: list[str], machine: Machine, paranoid: int | None) -> None:
    assert parse_machine("s", lines, "KVM") == (machine, paranoid)


# ---- judgements ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("some", "sentence"),
    [
        ([Counter("cycles", error=2)], "none: the machine has no PMU"),
        ([Counter("cycles", error=38)], "none: this kernel has no perf events"),
        (
            [Counter("cycles", error=13)],
            "not for this user (kernel.perf_event_paranoid is 2); log in as root to see them",
        ),
        ([Counter("cycles", error=24)], "none: error 24"),
        (
            [Counter("cycles", 1000, True), Counter("instructions", error=2)],
            "no real ones: only cycles, as an emulator has",
        ),
        (
            [Counter("cycles", 0, True), Counter("instructions", 5, True)],
            "there, but they stand still",
        ),
        ([Counter("cycles", 7, False)], "there, but they stand still"),
        (
            [Counter("cycles", 2600, True), Counter("instructions", 5200, True)],
            "real (2.60 GHz, 2.00 instructions per cycle, 2.60 per operation)",
        ),
    ],
)
def test_performance_counters(some: list[Counter], sentence: str) -> None:
    assert counters(replace(said(GUEST_SAID), counters=tuple(some))) == sentence


@pytest.mark.parametrize(
    ("backwards", "elapsed", "sentence"),
    [
        (0, 5.1, "right"),
        (0, 2.5, "50% slow"),
        (0, 10.0, "100% fast"),
        (3, 5.0, "ran backwards 3 times"),
    ],
)
def test_the_clock(backwards: int, elapsed: float, sentence: str) -> None:
    result = replace(said(GUEST_SAID), backwards=backwards, elapsed=elapsed)
    assert clock(result).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "one", "other", "faster"),
    [("integer", 50.0, 100.0, 0.5), ("syscall", 50.0, 100.0, 2.0), ("latency", 9.0, 9.0, 1.0)],
)
def test_ratios_say_faster_whatever_the_unit(
    name: str, one: float, other: float, faster: float
) -> None:
    figures = [Figure(BY_NAME[name], 0, (value,)) for value in (one, other)]
    assert figures[0].faster_than(figures[1]) == faster


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "same"),
        (0.96, "same"),
        (1.5, "1.5x faster"),
        (0.5, "2.0x slower"),
        (0.05, "20x slower"),
    ],
)
def test_ratios_in_words(ratio: float, text: str) -> None:
    assert compared(ratio) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (12.34, "12.3"), (99.99, "100"), (12345.6, "12,346")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("size", "text"), [(4096, "4 KiB"), (524288, "512 KiB"), (67108864, "64 MiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


# ---- the table -------------------------------------------------------------------------------


def test_table_of_two() -> None:
    host, guest = pair()
    lines = plain([host, guest], host).splitlines()
    cells = [" ".join(line.split()) for line in lines]
    assert cells[0] == "unit this machine guest"
    assert cells[1] == "integer operations M/s 8,000 ±0% 2,000 ±38% 4.0x slower"
    assert "system call ns 100 ±0% 2,000 ±0% 20x slower" in cells
    assert "process, start and end µs 50 ±0% -" in cells
    assert "memory latency, 64 MiB ns 90 ±0% -" in cells
    assert len({line.index(" ns ") for line in lines if " ns " in line}) == 1
    assert "Compared with this machine." in lines
    assert "guest: emulated, aarch64, Cortex-A57, 1 CPU, Linux 6.12" in lines
    assert "  left out: process, start and end (no time was left)" in lines


def test_a_busy_host_is_said() -> None:
    host, guest = pair()
    noisy = Figure(BY_NAME["syscall"], 0, (80.0, 100.0, 160.0))
    assert "restless" not in plain([host, guest], host)
    assert "restless" in plain([host, replace(guest, figures=(noisy,))], host)


def test_any_may_be_the_baseline() -> None:
    host, guest = pair()
    text = plain([host, guest], guest)
    assert "4.0x faster" in text
    assert "Compared with guest." in text


def test_table_of_one_compares_with_nothing() -> None:
    guest = said(GUEST_SAID)
    text = plain([guest], guest)
    assert "slower" not in text
    assert "Compared" not in text


# ---- the picture -----------------------------------------------------------------------------


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  (our own text)


def test_picture_of_two() -> None:
    host, guest = pair()
    root = parsed(svg([host, guest], host))
    written = list(root.itertext())
    assert "4.0x slower" in written
    assert "dozen bench: this machine and guest" in written
    assert len([r for r in root.iter(f"{SVG}rect") if r.get("class") == "bar1"]) == 1 + 3
    assert len(list(root.iter(f"{SVG}circle"))) == 2 + 3
    assert "guest against this machine: integer operations 4.0x slower" in (
        root.findtext(f"{SVG}desc") or ""
    )


def test_picture_of_one_has_only_the_curve() -> None:
    guest = said(GUEST_SAID)
    root = parsed(svg([guest], guest))
    assert len([r for r in root.iter(f"{SVG}rect") if "bar" in (r.get("class") or "")]) == 1
    assert len(list(root.iter(f"{SVG}path"))) == 1


def test_picture_without_latencies() -> None:
    host, guest = pair()
    bare = replace(guest, figures=guest.plain), replace(host, figures=host.plain)
    assert "Not enough was measured." in parsed(svg(bare, bare[0])).itertext()


values = st.floats(1e-3, 1e9)
figures = st.builds(
    lambda measure, size, samples: Figure(measure, size, tuple(samples)),
    st.sampled_from(MEASURES),
    st.sampled_from([4096, 8192, 65536]),
    st.lists(values, min_size=1, max_size=4),
)
machines = st.builds(
    lambda name, some: replace(
        said(GUEST_SAID), machine=replace(GUEST, name=name), figures=tuple(some)
    ),
    st.text(max_size=80),
    st.lists(figures, max_size=8, unique_by=lambda figure: (figure.measure, figure.parameter)),
)


@settings(deadline=None)  # time on a busy machine says nothing about the picture
@given(st.lists(machines, min_size=1, max_size=7))
def test_any_figures_become_a_well_formed_picture_inside_its_frame(some: list[Result]) -> None:
    root = parsed(svg(some, some[0]))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) >= 0
        assert float(rect.get("x", 0)) + float(rect.attrib["width"]) <= width
        assert float(rect.get("y", 0)) + float(rect.attrib["height"]) <= height
    for dot in root.iter(f"{SVG}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height


# ---- reaching a machine ----------------------------------------------------------------------

LOGIN = Login("172.24.4.9", "dozen", Path("/key"), Path("/hosts"))


def test_every_program_is_there_for_its_machine() -> None:
    codes = {"aarch64": 183, "armv7l": 40, "armv6l": 40, "riscv64": 243, "x86_64": 62}
    for architecture, code in codes.items():
        program = program_for(replace(GUEST, architecture=architecture))
        assert program[:4] == b"\x7fELF"
        assert program[18] + (program[19] << 8) == code  # e_machine


def test_an_architecture_without_a_program() -> None:
    with pytest.raises(Problem, match="guest is a machine for s390x, for which there is no"):
        program_for(replace(GUEST, architecture="s390x"))


def test_the_login_never_asks() -> None:
    words = Target("first", LOGIN).command
    assert words[0] == "ssh"
    assert "BatchMode=yes" in words
    assert words[words.index("-i") + 1] == "/key"
    assert words[-2] == "dozen@172.24.4.9"
    assert words[-1].startswith("sh -c '")


def test_without_a_key_ssh_takes_its_own() -> None:
    words = Target("first", Login("a", "u")).command
    assert "-i" not in words
    assert not any("UserKnownHostsFile" in word for word in words)


@pytest.mark.parametrize(
    ("status", "stderr", "what", "mend"),
    [
        (255, "dozen@a: Permission denied (publickey).", "does not take the key /key", "--user"),
        (255, "Host key verification failed.", "another host key", "ssh-keygen -f /hosts -R"),
        (255, "ssh: connect: Connection refused", "no SSH server yet", "booted"),
        (255, "ssh: connect: Connection timed out", "does not answer", "security group"),
        (255, "ssh: connect: No route to host", "does not answer", "console log"),
        (255, "kex: no match", "SSH to first (172.24.4.9) failed", ""),
        (126, "sh: Permission denied", "lets no program be started", "noexec"),
        (1, "mktemp: no space", "exit status 1", ""),
    ],
)
def test_why_a_server_cannot_be_measured(status: int, stderr: str, what: str, mend: str) -> None:
    problem = why(Target("first", LOGIN), status, stderr)
    assert what in problem.what
    assert mend in problem.mend
    assert problem.detail == stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name a server, or say --here."),
        (["one", "one"], "Name each server once."),
        (["one", "--baseline", "two"], "two is not among the servers to measure."),
        (["one", "--key", "/no/key"], "There is no key /no/key."),
    ],
)
def test_wrong_arguments(words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["--root", "/nowhere", "bench", *words])
    assert result.exit_code == Exit.USAGE
    assert said in result.output


def test_the_program_prints_every_measure() -> None:
    source = (run.PROGRAMS / "bench.c").read_text()
    for measure in MEASURES:
        assert f'"{measure.name}"' in source


def test_what_else_a_host_does_is_not_taken_for_what_it_can() -> None:
    """As measured on two cores with other work: most samples of the host are of half its speed."""
    integer, read = BY_NAME["integer"], BY_NAME["syscall"]
    busy = (488.0, 601.0, 1011.0, 2098.0, 2496.0, 2531.0, 2600.0, 2700.0, 7899.0, 7977.0, 8052.0)
    idle = (6256.0, 6319.0, 6370.0, 6396.0, 6400.0, 6420.0, 6430.0, 6440.0, 6450.0, 6470.0, 6484.0)
    host, guest = Figure(integer, 0, busy), Figure(integer, 0, idle)
    assert guest.median / host.median > 2, "by the medians the emulated one is faster"
    assert guest.faster_than(host) == pytest.approx(6484 / 8052)
    slow, fast = Figure(read, 0, (900.0, 240.0, 800.0)), Figure(read, 0, (300.0, 310.0, 305.0))
    assert fast.faster_than(slow) == pytest.approx(240 / 300)


def test_a_place_for_the_picture_is_looked_for_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(target: Target) -> Result:
        raise AssertionError(target)

    monkeypatch.setattr(run, "measure", measure)
    picture = tmp_path / "nowhere" / "x.svg"
    said = CliRunner().invoke(cli, ["bench", "--here", "--output", str(picture)])
    assert said.exit_code == Exit.FAILED
    assert f"The picture cannot be written to {picture}: No such file" in said.stderr
