"""No licence comes in unseen, what is shipped is listed, and the AGPL stays in one process."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "src"
CONSOLE = SOURCE / "dozencloud/data/console/lib"
sys.path.insert(0, str(CHECKOUT / "tools"))

import fetch_console_libraries  # noqa: E402
import licences  # noqa: E402
import make_sbom  # noqa: E402

POLICY = licences.load()


def distribution(folder: Path, *lines: str, name: str = "stranger") -> list[licences.Package]:
    """Lock and install a package with these lines of metadata."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join([f"Name: {name}", "Version: 1.0", *lines, ""]))
    lock = folder / "uv.lock"
    lock.write_text(
        '[[package]]\nname = "dozencloud"\nversion = "0"\nsource = { editable = "." }\n'
        f'[[package]]\nname = "{name}"\nversion = "1.0"\nsource = {{ registry = "x" }}\n'
    )
    return licences.locked(lock, licences.installed_in(folder))


def complaints(packages: list[licences.Package]) -> list[str]:
    """Those about these packages alone."""
    names = {each.name for each in packages}
    told = licences.complaints(packages, POLICY)
    return [each for each in told if each.partition(" ")[0] in names]


# ---- what comes in ------------------------------------------------------------------------


def test_every_licence_was_judged() -> None:
    packages = licences.locked(CHECKOUT / "uv.lock", licences.installed_in())
    assert len(packages) > 150
    assert sum(each.declared is not None for each in packages) > 150
    assert list(licences.complaints(packages, POLICY)) == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (("License-Expression: SSPL-1.0",), "has the licence SSPL-1.0, which nobody has judged"),
        (("License-Expression: GPL-3.0-only",), "GPL-3.0-only, which nobody has judged"),
        (("License-Expression: MIT AND BUSL-1.1",), "MIT AND BUSL-1.1, which nobody has judged"),
        (("License-Expression: AGPL-3.0-or-later",), "AGPL-3.0-or-later, which asks for source"),
        (("License: LGPL-3.0-or-later",), "LGPL-3.0-or-later, which asks for source"),
        (("License-Expression: MIT AND MPL-2.0",), "MIT AND MPL-2.0, which asks for source"),
        (
            ("Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",),
            "MPL-2.0, which asks for source",
        ),
        (("License: BSD",), "its licence is not known"),
        (("License: All rights reserved",), "its licence is not known"),
        (("Classifier: License :: Other/Proprietary License",), "its licence is not known"),
        (("Classifier: License :: OSI Approved :: BSD License",), "its licence is not known"),
        ((), "its licence is not known, since it does not say it clearly"),
    ],
)
def test_a_new_package_is_named(tmp_path: Path, lines: tuple[str, ...], sentence: str) -> None:
    (told,) = complaints(distribution(tmp_path, *lines))
    assert told.startswith("stranger 1.0")
    assert sentence in told
    assert "tools/licences.toml" in told


@pytest.mark.parametrize(
    "line",
    [
        "License-Expression: MIT",
        "License: Apache License, Version 2.0",
        "License-Expression: GPL-2.0-or-later OR Apache-2.0",
        "License-Expression: MIT AND (GPL-3.0-only OR (BSD-3-Clause AND ISC))",
        "Classifier: License :: OSI Approved :: MIT License",
    ],
)
def test_what_may_be_used_freely_comes_in(tmp_path: Path, line: str) -> None:
    assert complaints(distribution(tmp_path, line)) == []


def test_a_licence_that_changed_is_named(tmp_path: Path) -> None:
    (told,) = complaints(distribution(tmp_path, "License-Expression: AGPL-3.0-only", name="amqp"))
    assert "says that its licence is AGPL-3.0-only, and tools/licences.toml says" in told
    (told,) = complaints(distribution(tmp_path / "x", "License-Expression: MIT", name="nova")) or (
        "",
    )
    assert told == ""  # judged by its licence, not by its name


def test_a_package_that_is_not_installed_here_is_named(tmp_path: Path) -> None:
    packages = distribution(tmp_path, "License-Expression: MIT")
    unseen = [licences.Package(each.name, each.version) for each in packages]
    (told,) = complaints(unseen)
    assert "is not installed here" in told


def test_what_is_gone_leaves_the_list() -> None:
    told = list(licences.complaints([], POLICY))
    assert any(each.startswith("dissect-btrfs is not in uv.lock any more.") for each in told)


def test_each_licence_and_each_exception_has_its_sentence() -> None:
    text = tomllib.loads(licences.POLICY.read_text())
    for heading in ("permissive", "copyleft", "accepted"):
        assert all(text[heading].values())
    assert all(each["source"] for each in text["stated"].values())
    assert not set(text["permissive"]) & set(text["copyleft"])


def test_the_page_names_what_asks_for_source() -> None:
    page = (CHECKOUT / "docs/licences.md").read_text()
    for name in tomllib.loads(licences.POLICY.read_text())["accepted"]:
        assert f"`{name}`" in page, name


# ---- where the AGPL is --------------------------------------------------------------------

WORKER = "dozencloud.images.inspection.worker"
"""The process that looks into an image. It is started by its name, in a Python of its own."""


def agpl() -> set[str]:
    """Modules under the AGPL, as they are imported."""
    packages = licences.locked(CHECKOUT / "uv.lock", licences.installed_in())
    strong = {each.name for each in packages if "AGPL" in licences.licence(each, POLICY)}
    assert "dissect-btrfs" in strong
    return {name.replace("-", ".") for name in strong}


def modules() -> dict[str, Path]:
    """All of DozenCloud's modules."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }


def imports(path: Path, known: Iterable[str]) -> set[str]:
    """Which of the known modules a file imports, also inside of its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found.intersection(known)


def test_no_process_but_the_inspection_loads_what_is_under_the_agpl() -> None:
    strong, known = agpl(), modules()
    naming = {
        name
        for name, path in known.items()
        if any(each in path.read_text(encoding="utf-8") for each in strong)
    }
    assert WORKER in naming
    inside = "dozencloud.images.inspection."
    assert {name for name in naming if not name.startswith(inside)} == set()
    todo = [name for name in known if not name.startswith(inside)] + [f"{inside}confine"]
    reached = set(todo)
    while todo:
        for name in imports(known[todo.pop()], known) - reached:
            reached.add(name)
            todo.append(name)
    assert f"{inside}verdict" in reached
    assert reached & naming == set()
    assert imports(known[WORKER], known) & naming  # so there is something to find


# ---- what is shipped ----------------------------------------------------------------------


def test_the_bill_of_materials_is_what_the_lock_file_makes() -> None:
    stale = "the bill of materials is stale; run: tools/make_sbom.py"
    assert make_sbom.render(make_sbom.make()) == make_sbom.TARGET.read_text(encoding="utf-8"), stale


def test_the_bill_of_materials_is_complete() -> None:
    bill: dict[str, Any] = json.loads(make_sbom.TARGET.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    listed = {each["purl"]: each for each in bill["components"]}
    assert len(listed) == len(bill["components"])
    for each in tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]:
        if each["name"] != "dozencloud":
            assert f"pkg:pypi/{each['name']}@{each['version']}" in listed
    assert all(each["licenses"] for each in bill["components"])
    assert {ref for each in bill["dependencies"] for ref in each.get("dependsOn", ())} <= set(
        listed
    )
    scopes = {name: listed[purl]["scope"] for purl in listed for name in [listed[purl]["name"]]}
    assert (scopes["nova"], scopes["pytest"]) == ("required", "excluded")
    assert scopes["@novnc/novnc"] == "required"


def test_texts_lie_beside_what_others_made() -> None:
    notice = (CHECKOUT / "NOTICE").read_text()
    for each in fetch_console_libraries.LIBRARIES:
        folder = CONSOLE / each.folder
        assert [path for path in folder.iterdir() if path.name.startswith("LICENSE")], folder
        assert licences.allowed(each.licence, POLICY.permissive | {"MPL-2.0"})
    assert {path.name for path in CONSOLE.iterdir()} == {
        each.folder for each in fetch_console_libraries.LIBRARIES
    }
    for text in ("docs/LICENSE.MPL-2.0", "vendor/pako/LICENSE"):
        assert (CONSOLE / "novnc" / text).stat().st_size > 500
    for name in ("noVNC", "pako", "xterm.js", "addon-fit", "schema.sql.xz", "catalogue/keys"):
        assert name in notice
    for word in notice.split():
        path = word.strip(",;.:")
        if path.startswith("src/"):
            assert (CHECKOUT / path).exists(), path


def test_the_wheel_takes_the_texts_along() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["license-files"] == ["LICENSE", "NOTICE"]
    assert "src/dozencloud/" in str(make_sbom.TARGET.relative_to(CHECKOUT))
