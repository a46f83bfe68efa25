"""Make src/dozencloud/data/sbom.cdx.json, the software bill of materials (CycloneDX), from uv.lock.

uv writes what is in its lock file. Added are the licences (licences.py), the JavaScript of the
console pages, and what is for tests only; taken away is what differs from one run to the next.

    ENVIRONMENT/bin/python tools/make_sbom.py [OUTPUT]
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fetch_console_libraries
import licences

TARGET = licences.CHECKOUT / "src/dozencloud/data/sbom.cdx.json"
ROOT = "pkg:pypi/dozencloud"

Json = dict[str, Any]


def uv() -> Path:
    """The uv that made this environment, beside it (bootstrap/environment.sh)."""
    pins = (licences.CHECKOUT / "bootstrap/uv.txt").read_bytes()
    found = Path(sys.prefix).parent / f"uv-{hashlib.sha256(pins).hexdigest()[:12]}/bin/uv"
    if not found.exists():
        sys.exit(f"{found} is missing. Run this with the Python that ./tests/run has made.")
    return found


def exported(*options: str) -> Json:
    """What uv makes of the lock file."""
    words = ["export", "--frozen", "--offline", "--no-cache", "--no-config", "--quiet"]
    form = ["--preview-features", "sbom-export", "--format", "cyclonedx1.5"]
    done = subprocess.run(
        [str(uv()), *words, *form, *options],
        cwd=licences.CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
    )
    found: Json = json.loads(done.stdout)
    return found


def make() -> Json:
    """The bill of materials."""
    bill, shipped = exported("--all-groups"), exported("--no-dev")
    runs = {each["purl"] for each in shipped["components"]}
    packages = licences.locked(licences.CHECKOUT / "uv.lock", licences.installed_in())
    policy = licences.load()
    if told := list(licences.complaints(packages, policy)):
        sys.exit("\n".join(told))
    known = {(each.name, each.version): licences.licence(each, policy) for each in packages}
    # uv counts its components: one more would change the names of all behind it.
    names = {each["bom-ref"]: each["purl"] for each in bill["components"]}
    names[bill["metadata"]["component"]["bom-ref"]] = ROOT
    components = [
        _component(each, known[each["name"], each["version"]], each["purl"] in runs)
        for each in bill["components"]
    ]
    pages = list(_pages())
    depends = {
        names[each["ref"]]: sorted(names[ref] for ref in each.get("dependsOn", ()))
        for each in bill["dependencies"]
    }
    depends[ROOT] = sorted(depends[ROOT] + [each["bom-ref"] for each in pages])
    depends.update((each["bom-ref"], []) for each in pages)
    root = bill["metadata"]["component"]
    return {
        "bomFormat": bill["bomFormat"],
        "specVersion": bill["specVersion"],
        "version": 1,
        "metadata": {
            "tools": bill["metadata"]["tools"],
            "component": {
                "type": "application",
                "bom-ref": ROOT,
                "name": root["name"],
                "version": root["version"],
                "licenses": _licences("Apache-2.0"),
            },
        },
        "components": sorted([*components, *pages], key=lambda each: str(each["purl"])),
        "dependencies": [
            {"ref": ref, **({"dependsOn": on} if on else {})} for ref, on in sorted(depends.items())
        ],
    }


def _component(uvs: Json, licence: str, shipped: bool) -> Json:
    """A Python package, with where its source is. The hashes of all its wheels are in uv.lock."""
    sources = [
        each for each in uvs.get("externalReferences", ()) if not each["url"].endswith(".whl")
    ]
    return {
        "type": "library",
        "bom-ref": uvs["purl"],
        "name": uvs["name"],
        "version": uvs["version"],
        "scope": "required" if shipped else "excluded",
        "licenses": _licences(licence),
        "purl": uvs["purl"],
        **({"externalReferences": sources} if sources else {}),
        **({"properties": uvs["properties"]} if "properties" in uvs else {}),
    }


def _pages() -> Iterator[Json]:
    """The JavaScript libraries in src/dozencloud/data/console/lib."""
    for each in fetch_console_libraries.LIBRARIES:
        found = _npm(each.name, each.version, each.licence)
        found["externalReferences"] = [
            {
                "type": "distribution",
                "url": each.url,
                "hashes": [
                    {"alg": "SHA-512", "content": base64.b64decode(each.sha512).hex()},
                ],
            }
        ]
        if each.inside:
            found["components"] = [_npm(*inner) for inner in each.inside]
        yield found


def _npm(name: str, version: str, licence: str) -> Json:
    purl = f"pkg:npm/{quote(name)}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": _licences(licence),
        "purl": purl,
    }


def _licences(expression: str) -> list[Json]:
    # Only a licence of SPDX's list is an "id"; two names, or one of our own, are an expression.
    if " " in expression or expression.startswith("LicenseRef-"):
        return [{"expression": expression}]
    return [{"license": {"id": expression}}]


def render(bill: Json) -> str:
    """As it is kept."""
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    bill = make()
    target.write_text(render(bill), encoding="utf-8")
    print(f"{target}: {len(bill['components'])} components")
