"""What an upgrade keeps for the way back: the databases, and the settings that belong to them."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dozencloud.cloud.installation import SECRETS_FILE, Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.settings import CLOUD_FILE
from dozencloud.content import schema
from dozencloud.private import write_private
from dozencloud.services import mariadb
from dozencloud.tasks.graph import Step

KEPT = 3
"""Backups that stay; each has the databases of one moment, with all passwords in them."""
SETTINGS = (CLOUD_FILE, SECRETS_FILE, "keystone/fernet-keys", "keystone/credential-keys")
"""What the content of the databases goes with. Everything else is rendered anew, or must not go
back: whoever was shut out since stays so."""
HOUR = 3600.0
"""s that one step takes at most, with databases of many GiB on a slow disk."""
FACTS, DUMP = "backup.json", "databases.sql.gz"


@dataclass(frozen=True)
class Backup:
    """One that is whole.

    release: by which the data can be used.   made: seconds since the epoch.
    """

    folder: Path
    release: str
    made: float


def place(cloud: Cloud) -> Path:
    return cloud.lib / "backups"


def find(cloud: Cloud, name: str) -> Backup:
    """The backup of that name, which exists."""
    folder = place(cloud) / name
    facts = json.loads((folder / FACTS).read_text())
    return Backup(folder, str(facts["release"]), float(facts["made"]))


def all_kept(cloud: Cloud) -> list[Backup]:
    """The oldest first."""
    # Names begin with the time; one that is being made begins with a dot.
    names = sorted(path.parent.name for path in place(cloud).glob(f"[0-9]*/{FACTS}"))
    return [find(cloud, name) for name in names]


def size(cloud: Cloud) -> int:
    """MiB that a dump of the databases takes at most: what their tables take."""
    tables = (cloud.lib / "mariadb").glob("*/*.ibd")
    return sum(path.stat().st_size for path in tables) >> 20


def make(plan: Plan, release: str, step: Step) -> Backup:
    """Keep the databases as they are now; `release` is the one that they are of."""
    now = time.time()
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = place(plan.cloud) / f"{moment}-{release}"
    aside = folder.with_name(f".{folder.name}")
    place(plan.cloud).mkdir(mode=0o700, exist_ok=True)
    for half in place(plan.cloud).glob(".*"):
        shutil.rmtree(half)
    aside.mkdir(mode=0o700)
    etc = plan.cloud.etc
    for name in filter(lambda name: (etc / name).exists(), SETTINGS):
        (aside / "etc" / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(etc / name, aside / "etc" / name, step)
    dump = (aside / DUMP).with_suffix("")
    write_private(dump, "")  # the program keeps the rights of a file that is there
    words = [
        *("mariadb-dump", "--no-defaults", f"--socket={mariadb.socket(plan)}", "--user=root"),
        *("--single-transaction", "--hex-blob", "--add-drop-database", f"--result-file={dump}"),
        # The first says which of them are filled.
        *("--databases", "dozencloud", *sorted(schema.loaded(plan, step))),
    ]
    step.run(words, timeout=HOUR)
    step.run(["gzip", str(dump)], timeout=HOUR)
    facts = {"release": release, "made": now}
    write_private(aside / FACTS, json.dumps(facts, indent=2) + "\n")
    step.run(["sync", "--file-system", str(aside)], timeout=HOUR)
    aside.rename(folder)
    return Backup(folder, release, now)


def put_back_settings(cloud: Cloud, backup: Backup, step: Step) -> None:
    """Make the settings and keys those of the backup."""
    for name in SETTINGS:
        kept = backup.folder / "etc" / name
        if kept.exists():
            _copy(kept, cloud.etc / name, step)


def _copy(source: Path, target: Path, step: Step) -> None:
    """A file or folder with its owners and rights, in the place of what is there."""
    aside = target.with_name(f".{target.name}.new")
    step.run(["rm", "--recursive", "--force", str(aside)], timeout=HOUR)
    step.run(["cp", "--archive", str(source), str(aside)], timeout=HOUR)
    if target.is_dir():
        shutil.rmtree(target)
    aside.rename(target)


def load(plan: Plan, backup: Backup, step: Step) -> None:
    """Make the databases those of the backup; each is dropped and filled anew."""
    dump = backup.folder / DUMP
    text = dump.with_suffix("")
    try:
        step.run(["gzip", "--decompress", "--keep", "--force", str(dump)], timeout=HOUR)
        step.run([*mariadb.client(plan), f"--execute=source {text}"], timeout=HOUR)
    finally:
        text.unlink(missing_ok=True)


def prune(cloud: Cloud) -> None:
    """Remove all but the newest."""
    for old in all_kept(cloud)[:-KEPT]:
        shutil.rmtree(old.folder)
