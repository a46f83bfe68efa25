"""Kernel modules: which files a driver needs, and in which order they load.

Debian's kernel package has no modules.dep (depmod makes it at installation), so the dependencies
are read where depmod reads them: in the `depends=` field of each module. That needs no tool.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dozencloud.images.formats.elf import Elf


@dataclass(frozen=True)
class Module:
    """A loadable module, uncompressed."""

    name: str
    path: str
    """Relative to /lib/modules/RELEASE, ends with .ko."""
    data: bytes
    depends: tuple[str, ...]


class MissingModule(Exception):
    """The kernel has no such module, neither loadable nor built in."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def canonical(name: str) -> str:
    """The kernel treats '-' and '_' in module names alike."""
    return name.replace("-", "_")


def _module_name(path: str) -> str:
    return canonical(PurePosixPath(path).name.partition(".ko")[0])


def modinfo(data: bytes) -> dict[str, str]:
    """The fields of a module (the last one, where a field is repeated)."""
    section = Elf(data).section(".modinfo") or b""
    pairs = (item.partition(b"=") for item in section.split(b"\0") if item)
    return {key.decode(): value.decode(errors="replace") for key, _, value in pairs}


def _read(root: Path, path: Path) -> Module:
    data = path.read_bytes()
    if path.suffix == ".xz":
        data = lzma.decompress(data)
    depends = modinfo(data).get("depends", "")
    return Module(
        name=_module_name(path.name),
        path=str(path.relative_to(root)).partition(".ko")[0] + ".ko",
        data=data,
        depends=tuple(canonical(name) for name in depends.split(",") if name),
    )


def closure(root: Path, wanted: Iterable[str]) -> list[Module]:
    """The wanted modules and all that they need, dependencies first.

    root: the directory lib/modules/RELEASE. Modules built into the kernel are left out.
    """
    files = {_module_name(path.name): path for path in root.rglob("*.ko*")}
    builtin = {_module_name(line) for line in (root / "modules.builtin").read_text().split()}
    ordered: dict[str, Module] = {}

    def add(name: str) -> None:
        if name in ordered or name in builtin:
            return
        if name not in files:
            raise MissingModule(name)
        module = _read(root, files[name])
        for other in module.depends:
            add(other)
        ordered[name] = module

    for name in wanted:
        add(canonical(name))
    return list(ordered.values())


def modules_dep(modules: Iterable[Module]) -> str:
    """The text of modules.dep for exactly these modules, as modprobe reads it."""
    known = {module.name: module for module in modules}

    def all_of(module: Module) -> list[str]:
        # modprobe loads the list from its end, so what is needed first comes last.
        paths: list[str] = []
        for name in module.depends:
            if name in known:
                paths += [known[name].path, *all_of(known[name])]
        return list(dict.fromkeys(reversed(paths)))[::-1]

    return "".join(f"{m.path}: {' '.join(all_of(m))}".rstrip() + "\n" for m in known.values())
