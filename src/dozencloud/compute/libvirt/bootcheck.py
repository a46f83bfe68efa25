"""Whether what a server starts from is for its architecture, asked before each start.

The import of an image asked the same; but properties change, and images come by other ways. Only
what is certain is refused: a disk that cannot be read, or a system installed by hand, starts.
"""

from __future__ import annotations

from collections.abc import Mapping

from dozencloud.compute.abilities import ARM
from dozencloud.compute.bootfiles import inspected, parse
from dozencloud.errors import Problem
from dozencloud.images.inspection import loaders
from dozencloud.images.inspection.model import Boot, Inspection
from dozencloud.images.inspection.verdict import name

PROPERTY = "dozen_boot_check"
"""The image's property; `skip` starts its servers unasked."""
SILENT = "It would run without a word on its console."


def image_properties(system_metadata: Mapping[str, str]) -> dict[str, str]:
    """All properties of a server's image; Nova's own object has those only that Nova knows."""
    return {
        key.removeprefix("image_"): value
        for key, value in system_metadata.items()
        if key.startswith("image_")
    }


def against_kernel(arch: str, found: Inspection) -> str:
    """Why the kernel does not start on that architecture; empty if it does, or nobody knows."""
    if found.arch and found.arch != arch:
        return f"The server is {arch}, but its kernel is for {name(found.arch)}. {SILENT}"
    return ""


def against_disk(arch: str, found: Inspection) -> str:
    """Why firmware of that architecture starts nothing from the disk; else empty."""
    if any(each.arch == arch for each in found.loaders):
        return ""
    removable = [each for each in found.loaders if loaders.removable(each)]
    if removable:
        only = " and ".join(sorted({name(each.arch) for each in removable}))
        return f"The server is {arch}, but the EFI loader on its disk is for {only}."
    if found.boot is not Boot.NONE:
        return ""
    foreign = found.arch is not None and found.arch != arch
    return found.reason if foreign or (found.mbr_boot_code and not found.esp) else ""


def check(xml: str, properties: Mapping[str, str]) -> None:
    """Problem where the domain cannot start. properties: of the server's image."""
    if properties.get(PROPERTY) == "skip":
        return
    start = parse(xml)
    if start.kernel is not None:
        found = inspected(start)
        reason = against_kernel(start.arch, found) if found else ""
    elif start.firmware:
        found = inspected(start)
        reason = against_disk(start.arch, found) if found else ""
    elif start.arch in ARM:
        reason = "The server has neither firmware nor a kernel beside its disk: ARM has no BIOS."
    else:
        reason = ""
    if reason:
        raise Problem(reason, f"Mend its image; to start it all the same: {PROPERTY}=skip there.")
