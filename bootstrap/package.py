"""Install DozenCloud's own code into the environment whose Python runs this.

What a wheel of this project would hold, put where pip would put it, without the build backend that
an isolated build would download. Each package is swapped in by a rename, so that a service that is
running never meets half of it.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def packages(source: Path) -> Iterator[Path]:
    """Yield the topmost packages: `dozencloud`, and ours inside Nova's namespace."""
    for init in sorted(source.rglob("__init__.py")):
        if not (init.parent.parent / "__init__.py").exists():
            yield init.parent.relative_to(source)


def swap_in(source: Path, target: Path) -> None:
    """Copy a package beside its place, then rename it there."""
    new, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, new, ignore=shutil.ignore_patterns("__pycache__"))
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def entry_points(project: dict[str, Any]) -> str:
    """Render entry_points.txt."""
    groups = {"console_scripts": project.get("scripts", {})} | project.get("entry-points", {})
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in groups.items()
    )


def metadata(project: dict[str, Any]) -> str:
    """Render METADATA."""
    lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"License-Expression: {project['license']}"]
    lines += [f"License-File: {name}" for name in project["license-files"]]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    return "\n".join(["Metadata-Version: 2.4", *lines, ""])


def record(site: Path, trees: list[Path]) -> str:
    """Render RECORD, with which pip and uv can uninstall."""
    lines = []
    for path in sorted(path for tree in trees for path in tree.rglob("*") if path.is_file()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
        sha256 = digest.rstrip(b"=").decode()
        lines.append(f"{path.relative_to(site)},sha256={sha256},{path.stat().st_size}\n")
    return "".join(lines)


def install(checkout: Path, site: Path) -> None:
    """Replace what an earlier checkout installed by this one's."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    names = list(packages(checkout / "src"))
    info = site / f"{project['name']}-{project['version']}.dist-info"
    for old in site.glob(f"{project['name']}-*.dist-info"):
        kept = old / "packages.txt"
        before = kept.read_text().splitlines() if kept.exists() else []
        for gone in {Path(line) for line in before} - set(names):
            shutil.rmtree(site / gone, ignore_errors=True)
        shutil.rmtree(old)
    for name in names:
        swap_in(checkout / "src" / name, site / name)
    info.mkdir()
    (info / "licenses").mkdir()
    for name in project["license-files"]:
        shutil.copyfile(checkout / name, info / "licenses" / name)
    (info / "packages.txt").write_text("".join(f"{name}\n" for name in names))
    (info / "METADATA").write_text(metadata(project))
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "INSTALLER").write_text("dozen\n")
    (info / "entry_points.txt").write_text(entry_points(project))
    files = record(site, [*(site / name for name in names), info])
    (info / "RECORD").write_text(f"{files}{(info / 'RECORD').relative_to(site)},,\n")


if __name__ == "__main__":
    install(Path(sys.argv[1]), Path(sysconfig.get_path("purelib")))
