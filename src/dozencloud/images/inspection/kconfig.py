"""What a kernel can do, by its configuration or by the list of its modules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dozencloud.images.inspection.model import Arch
from dozencloud.images.inspection.tree import Tree

LIMIT = 1 << 20
"""Bytes of a configuration or a list of modules; Debian's are 0.3 and 0.6 MB."""
ASKED = re.compile(
    r"^CONFIG_(VIRTIO_(?:PCI|BLK|NET)|ARM_LPAE|CPU_V6K?|CPU_V7)=([ym])$", re.MULTILINE
)

DISK = {"virtio_pci": "VIRTIO_PCI", "virtio_blk": "VIRTIO_BLK"}
"""Modules without which a kernel sees no disk of a server, and their options."""


@dataclass(frozen=True)
class Config:
    """The options that we ask for and that are on. known: there was a configuration to read."""

    known: bool = False
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Config:
        """A kernel's .config."""
        return cls("CONFIG_" in text, dict(ASKED.findall(text)))

    def enabled(self, option: str) -> bool:
        """Built in or a module."""
        return option in self.options

    @property
    def virtio_built_in(self) -> bool:
        """Whether the disk is seen without any module."""
        return all(self.options.get(option) == "y" for option in DISK.values())


@dataclass(frozen=True)
class Drivers:
    """virtio, modules, lpae: as in model.Kernel. arch: of a 32-bit ARM kernel, None if unknown."""

    virtio: bool | None = None
    modules: tuple[str, ...] = ()
    lpae: bool | None = None
    arch: Arch | None = None


def drivers(config: Config, modules: tuple[Tree, str] | None) -> Drivers:
    """What is known of a kernel's drivers from its configuration, else from its modules' folder."""
    if config.known:
        needed = tuple(name for name, option in DISK.items() if config.options.get(option) == "m")
        there = all(config.enabled(option) for option in DISK.values())
        arch = Arch.ARMV7L if config.enabled("CPU_V7") else Arch.ARMV6
        return Drivers(there, needed if there else (), config.enabled("ARM_LPAE"), arch)
    if modules is None:
        return Drivers()
    tree, folder = modules
    built_in = module_names(_lines(tree, f"{folder}/modules.builtin"))
    loadable = module_names(_lines(tree, f"{folder}/modules.dep"))
    if not built_in:
        return Drivers()
    there = all(name in built_in or name in loadable for name in DISK)
    needed = tuple(name for name in DISK if name not in built_in)
    return Drivers(there, needed if there else ())


def module_names(lines: list[str]) -> set[str]:
    """Names of modules from their paths, or from lines of modules.dep."""
    found = set()
    for line in lines:
        name, dot, _ = line.partition(":")[0].rpartition("/")[2].partition(".ko")
        if dot:
            # The kernel treats '-' and '_' in module names alike.
            found.add(name.replace("-", "_"))
    return found


def _lines(tree: Tree, path: str) -> list[str]:
    return tree.text(path, LIMIT).splitlines()
