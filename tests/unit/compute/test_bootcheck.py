"""Which starts are refused, from what inspection found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dozencloud.compute import bootfiles
from dozencloud.compute.libvirt import bootcheck
from dozencloud.compute.refusal import Refused, refusing
from dozencloud.errors import Problem
from dozencloud.images.importing import FORCED
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection, Loader

BOTH = (
    Loader("EFI/BOOT/BOOTAA64.EFI", Arch.AARCH64, 1),
    Loader("EFI/BOOT/BOOTARM.EFI", Arch.ARMV7L, 1),
)
PC = (Loader("EFI/BOOT/BOOTX64.EFI", Arch.X86_64, 1),)
INSTALLED = (Loader("EFI/debian/grubx64.efi", Arch.X86_64, 1),)


def disk(
    boot: Boot,
    arch: Arch | None = None,
    loaders: tuple[Loader, ...] = (),
    *,
    mbr: bool = False,
) -> Inspection:
    return Inspection(
        Format.RAW, boot, reason="Said.", arch=arch, loaders=loaders, mbr_boot_code=mbr
    )


@pytest.mark.parametrize(
    ("arch", "found", "said"),
    [
        ("aarch64", disk(Boot.UEFI, Arch.AARCH64, BOTH[:1]), ""),
        ("armv7l", disk(Boot.UEFI, Arch.AARCH64, BOTH), ""),
        ("armv7l", disk(Boot.UEFI, Arch.AARCH64, BOTH[:1]), "is for aarch64."),
        ("aarch64", disk(Boot.UEFI, Arch.ARMV7L, BOTH[1:]), "is for armv7l."),
        ("aarch64", disk(Boot.NONE, Arch.X86_64, PC), "is for x86-64."),
        ("aarch64", disk(Boot.NONE, Arch.X86_64, INSTALLED), "Said."),
        ("aarch64", disk(Boot.NONE, mbr=True), "Said."),
        # Somebody may have installed it himself, and the firmware remembers where.
        ("aarch64", disk(Boot.KERNEL, Arch.AARCH64), ""),
        ("aarch64", disk(Boot.NONE, Arch.AARCH64), ""),
        ("aarch64", disk(Boot.NONE), ""),  # unknown file systems, an empty disk
    ],
)
def test_a_disk(arch: str, found: Inspection, said: str) -> None:
    assert bootcheck.against_disk(arch, found).endswith(said)
    assert bool(bootcheck.against_disk(arch, found)) is bool(said)


@pytest.mark.parametrize(
    ("arch", "found", "refused"),
    [
        ("aarch64", Arch.AARCH64, False),
        ("armv7l", Arch.ARMV7L, False),
        ("s390x", Arch.S390X, False),
        ("armv7l", None, False),
        ("armv7l", Arch.AARCH64, True),
        ("aarch64", Arch.ARMV7L, True),
        ("aarch64", Arch.X86_64, True),
    ],
)
def test_a_kernel(arch: str, found: Arch | None, refused: bool) -> None:
    kernel = Inspection(Format.KERNEL, Boot.KERNEL, arch=found)
    assert bool(bootcheck.against_kernel(arch, kernel)) is refused


XML = """<domain><os{firmware}><type arch='aarch64'>hvm</type>{more}</os><devices>
<disk type='file' device='cdrom'><source file='/no'/></disk>
<disk type='{kind}' device='disk'><source {kind}='/disk'/></disk>
<disk type='file' device='disk'><source file='/second'/></disk></devices></domain>"""


@pytest.mark.parametrize(
    ("firmware", "more", "kind", "start"),
    [
        ("", "", "file", (False, None, Path("/disk"))),
        (" firmware='efi'", "", "file", (True, None, Path("/disk"))),
        ("", "<loader>/code</loader>", "file", (True, None, Path("/disk"))),
        ("", "<kernel>/kernel</kernel>", "file", (False, Path("/kernel"), Path("/disk"))),
        (" firmware='efi'", "", "dev", (True, None, None)),
    ],
)
def test_what_a_domain_starts_from(
    firmware: str, more: str, kind: str, start: tuple[bool, Path | None, Path | None]
) -> None:
    found = bootfiles.parse(XML.format(firmware=firmware, more=more, kind=kind))
    assert found == bootfiles.BootFiles("aarch64", *start)


def test_arm_has_no_bios_and_the_owner_has_the_last_word() -> None:
    xml = XML.format(firmware="", more="", kind="file")
    with pytest.raises(Problem, match=r"ARM has no BIOS.*dozen_boot_check=skip"):
        bootcheck.check(xml, {})
    bootcheck.check(xml, FORCED)
    properties = bootcheck.image_properties({"image_dozen_boot_check": "skip", "other": "x"})
    bootcheck.check(xml, properties)


def test_what_cannot_be_read_starts(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(256)) * 64)
    for file in (noise, tmp_path / "missing"):
        more = f"<kernel>{file}</kernel>"
        bootcheck.check(XML.format(firmware="", more=more, kind="file"), {})


def test_the_fault_is_the_sentence_alone() -> None:
    with pytest.raises(Refused) as caught, refusing("1234"):
        raise Problem("It cannot.", "Mend it.")
    assert caught.value.format_message() == "It cannot. Mend it."
    assert caught.value.kwargs["reason"] == "It cannot. Mend it."
