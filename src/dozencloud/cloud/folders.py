"""What of a cloud's four folders everybody on its machine may read, and why. All else is closed.

Users of the services pass through the folders above their own; what somebody may not pass through
does not depend on the rights of what is below, which other programs make.
"""

from __future__ import annotations

import grp
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.private import aside

READABLE: Mapping[str, str] = {
    "etc/cloud.toml": "settings, without secrets: `dozen` reads them for every user",
    "etc/tls/ca.crt": "by it clients of every user know the cloud; the gateway gives it out, too",
}
"""Path -> why it may be read."""

PASSED: Mapping[str, str] = {
    "etc": "to the two files above, and for services to their own folders",
    "etc/tls": "to the authority's certificate",
    "lib": "QEMU to the disks of servers, services to their data",
}
"""Path -> why everybody passes through, who cannot list what is in it."""

_TOP = {"etc": 0o711, "lib": 0o711, "log": 0o700, "run": 0o710}
_OURS = {
    **{"etc/nodes": 0o700, "etc/ssh": 0o700, "etc/tls": 0o711},
    **{"lib/backups": 0o700, "lib/cache": 0o700},
}
"""Folders that are not a service's, with their rights."""


def make_folders(cloud: Cloud, group: str) -> None:
    """The four folders, and what is directly in them; also those that a release before left open.

    group: of the services, which pass through `run`; before there is one, nobody does.
    """
    for folder in cloud.folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = _TOP[_name(cloud, folder)]
        if mode == 0o710:
            with suppress(KeyError):
                os.chown(folder, 0, grp.getgrnam(group).gr_gid)
        folder.chmod(mode)
    for name, mode in _OURS.items():
        with suppress(FileNotFoundError):
            _path(cloud, name).chmod(mode)
    for path in _plain_files(cloud):
        with suppress(FileNotFoundError):
            _close(path)
    for path in readable(cloud):
        with suppress(FileNotFoundError):
            path.chmod(0o644)


def readable(cloud: Cloud) -> dict[Path, str]:
    """Of this cloud: path -> why everybody may read it."""
    return {_path(cloud, name): why for name, why in READABLE.items()}


def passed(cloud: Cloud) -> dict[Path, str]:
    """Of this cloud: path -> why everybody may pass through it."""
    return {_path(cloud, name): why for name, why in PASSED.items()}


def _name(cloud: Cloud, folder: Path) -> str:
    return ("etc", "lib", "log", "run")[cloud.folders.index(folder)]


def _path(cloud: Cloud, name: str) -> Path:
    top, _, below = name.partition("/")
    place: Path = getattr(cloud, top)
    return place / below if below else place


def _plain_files(cloud: Cloud) -> Iterator[Path]:
    # Another task may be writing one of them right now.
    open_ones = {at for path in readable(cloud) for at in (path, aside(path))}
    for folder in (*cloud.folders, cloud.ca.parent):
        if folder.is_dir():
            for path in folder.iterdir():
                if path not in open_ones and path.is_file() and not path.is_symlink():
                    yield path


def _close(path: Path) -> None:
    """Take the rights of others away; a certificate belongs to whom its key belongs to."""
    about = path.stat()
    key = path.with_suffix(".key")
    if path.suffix == ".crt" and key.exists():
        owner = key.stat()
        if (about.st_uid, about.st_gid) != (owner.st_uid, owner.st_gid):
            shutil.chown(path, owner.st_uid, owner.st_gid)
    if about.st_mode & 0o077:
        path.chmod(stat.S_IMODE(about.st_mode) & ~0o077)
