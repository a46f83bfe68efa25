"""What all clouds of this machine share, and what outlives them: one small file.

The packages that were installed for them are remembered until they are purged, and which clouds
there are, running or stopped: they have the users of the services in common.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dozencloud.cloud.installation import Cloud, is_there
from dozencloud.private import write_private

RECORD = Path("/var/lib/misc/dozencloud.json")
"""The place for state of programs without a folder of their own (FHS 3.0, 5.8); none is left."""
PACKAGES, CLOUDS = "packages", "clouds"


def packages() -> list[str]:
    """Packages of the system that were not there before the clouds."""
    return list(_read().get(PACKAGES, []))


def remember(names: Iterable[str]) -> None:
    """Add packages."""
    with _changing() as record:
        record[PACKAGES] = sorted({*record.get(PACKAGES, []), *names})


def forget_packages() -> None:
    """None is there any more."""
    with _changing() as record:
        record.pop(PACKAGES, None)


def enter(cloud: Cloud) -> None:
    """The cloud is on this machine from now on."""
    place = str(cloud.etc)
    if place not in _read().get(CLOUDS, []):
        with _changing() as record:
            record[CLOUDS] = sorted({*record.get(CLOUDS, []), place})


def leave(cloud: Cloud) -> None:
    """The cloud is gone; so are those whose folders somebody has removed."""
    with _changing() as record:
        record[CLOUDS] = [place for place in _there(record) if place != str(cloud.etc)]


def others(cloud: Cloud) -> list[str]:
    """Folders of settings of the other clouds of this machine, running or stopped."""
    return [place for place in _there(_read()) if place != str(cloud.etc)]


def _there(record: dict[str, Any]) -> list[str]:
    return [place for place in record.get(CLOUDS, []) if is_there(Path(place))]


def _read() -> dict[str, Any]:
    try:
        content = json.loads(RECORD.read_text())
    except (FileNotFoundError, ValueError):
        content = None
    return content if isinstance(content, dict) else {}


@contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    """The content, to be changed by one `dozen` at a time; the file goes when it is empty."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(RECORD.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        record = _read()
        yield record
        record = {name: value for name, value in record.items() if value}
        if record:
            write_private(RECORD, json.dumps(record, indent=2) + "\n", 0o644)
        else:
            RECORD.unlink(missing_ok=True)
    finally:
        os.close(folder)
