"""Fetch the JavaScript libraries of the console pages into src/dozencloud/data/console/lib.

They are npm packages, unchanged. Each is pinned by the SHA-512 sum that npm's registry publishes.

    python tools/fetch_console_libraries.py [FOLDER]
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "src" / "dozencloud" / "data" / "console" / "lib"
REGISTRY = "https://registry.npmjs.org"


@dataclass(frozen=True)
class Library:
    """An npm package: where it goes, which of its files (folders end with a slash) go there.

    licence: as an SPDX expression.  inside: packages in it, as (name, version, licence).
    """

    folder: str
    name: str
    version: str
    licence: str
    sha512: str
    files: tuple[str, ...]
    inside: tuple[tuple[str, str, str], ...] = ()

    @property
    def url(self) -> str:
        base = self.name.rpartition("/")[2]
        return f"{REGISTRY}/{self.name}/-/{base}-{self.version}.tgz"


LIBRARIES = (
    Library(
        "novnc",
        "@novnc/novnc",
        "1.7.0",
        "MPL-2.0",
        "ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG+70ZGx21sElNFouK13RzyA==",
        ("core/", "vendor/", "LICENSE.txt", "docs/LICENSE.MPL-2.0"),
        inside=(("pako", "1.0.3", "MIT"),),
    ),
    Library(
        "xterm",
        "@xterm/xterm",
        "6.0.0",
        "MIT",
        "TQwDdQGtwwDt+2cgKDLn0IRaSxYu1tSUjgKarSDkUM0ZNiSRXFpjxEsvc/Zgc5kq5omJ+V0a8/kIM2WD3sMOYg==",
        ("lib/xterm.mjs", "css/xterm.css", "LICENSE"),
    ),
    Library(
        "xterm-fit",
        "@xterm/addon-fit",
        "0.11.0",
        "MIT",
        "jYcgT6xtVYhnhgxh3QgYDnnNMYTcf8ElbxxFzX0IZo+vabQqSPAjC3c1wJrKB5E19VwQei89QCiZZP86DCPF7g==",
        ("lib/addon-fit.mjs", "LICENSE"),
    ),
)


def fetch(library: Library, target: Path) -> None:
    """Put the library's files into its folder below `target`."""
    with urllib.request.urlopen(library.url, timeout=60) as answer:  # noqa: S310 (https, above)
        archive = answer.read()
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != library.sha512:
        sys.exit(f"{library.url} is not what was pinned: its SHA-512 sum is {found}.")
    folder = target / library.folder
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            name = member.name.removeprefix("package/")
            if member.isfile() and any(
                name == file or (file.endswith("/") and name.startswith(file))
                for file in library.files
            ):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if content := tar.extractfile(member):
                    path.write_bytes(content.read())


if __name__ == "__main__":
    for each in LIBRARIES:
        fetch(each, Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
        print(f"{each.name} {each.version}")
