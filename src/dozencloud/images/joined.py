"""An image that names its kernel: what is told of the three files is told of them together."""

from __future__ import annotations

from dataclasses import replace

from dozencloud.images.inspection import verdict
from dozencloud.images.inspection.model import Boot, Format, Inspection


def joined(
    disk: Inspection, kernel: Inspection, initrd: Inspection | None, line: str
) -> Inspection:
    """How a server starts from the disk with that kernel. line: the kernel's arguments."""
    reason = _against(disk, kernel, initrd)
    boots = None if reason else kernel.kernel
    return replace(
        disk,
        boot=Boot.NONE if reason else Boot.KERNEL,
        reason=reason,
        arch=kernel.arch,
        kernels=kernel.kernels,
        initrds=initrd.initrds if initrd else (),
        kernel=boots,
        command_line=line if boots else "",
        min_disk=max(1, disk.min_disk),
        min_memory=0 if reason else max(disk.min_memory, kernel.min_memory),
        warnings=(),
    )


def _against(disk: Inspection, kernel: Inspection, initrd: Inspection | None) -> str:
    """Why nothing starts, in a sentence; empty if it does."""
    if kernel.boot is not Boot.KERNEL or kernel.kernel is None:
        reason = kernel.reason or "It is a disk, which brings its own."
        return f"The kernel that the image names does not start: {reason}"
    if initrd is not None and initrd.format is not Format.INITRD:
        return "The initial RAM disk that the image names is none."
    modules = " and ".join(kernel.kernel.modules)
    if modules and initrd is None:
        return f"The kernel has {modules} as a module, and no initial RAM disk brings it."
    programs = [initrd.arch] if initrd else []
    programs += [disk.system.arch] if disk.system else []
    for arch in programs:
        if arch and kernel.arch and not verdict.runs(arch, kernel.arch):
            return (
                f"The kernel that the image names is for {verdict.name(kernel.arch)}, its programs "
                f"are for {verdict.name(arch)}: it cannot run them."
            )
    return ""
