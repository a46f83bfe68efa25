"""A release that does not exist yet: a copy of this one's package with another number."""

from __future__ import annotations

import shutil
from pathlib import Path

from testcloud import TestCloud

import dozencloud
from dozencloud import SERIES


class Next(TestCloud):
    """A machine in the hands of a checkout of that release."""

    def __init__(self, root: Path, place: Path, release: str) -> None:
        super().__init__(root)
        self.place = place
        package = place / "dozencloud"
        shutil.copytree(Path(dozencloud.__file__).parent, package)
        series = ".".join(release.split(".")[:2])
        known = SERIES if series in SERIES else (*SERIES, series)
        with (package / "__init__.py").open("a") as init:
            init.write(f"RELEASE = {release!r}\nSERIES = {known!r}\n")

    def words(self, *words: str) -> list[str]:
        return ["env", f"PYTHONPATH={self.place}", *super().words(*words)]
