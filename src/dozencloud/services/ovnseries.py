"""Series of OVN: which understands which, and the older one that a controller may write in.

A controller with a newer system than one of its nodes runs the ovn-northd of Debian 12, whose
flows every node reads. It works on the databases of the newer OVN: it knows a part of their
columns. Only that one program is taken, from Debian's archive, with its signatures checked.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import OLDEST_OVN
from dozencloud.facts.run import ask
from dozencloud.facts.system import os_release, packages_architecture
from dozencloud.host.distributions import registry
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny.direct import KEYRING
from dozencloud.tasks.graph import Step

NORTHD = "ovn-northd"
SUITE = "bookworm"
"""Debian's release that has OLDEST_OVN."""
THERE = ("libc6", "libcap-ng0", "libssl3", "libunbound8", "lsb-release", "openvswitch-common")
"""What its package asks for, and this system's own OVN has brought."""
SERIES = re.compile(r"\d{2}\.\d{2}")


def installed(program: str = NORTHD) -> str:
    """Of the program, such as `25.03`; empty where it is not installed."""
    return _first(ask(program, "--version").output)


def coming() -> str:
    """Of ovn-controller on a node: as it is, or as it would be installed; empty where unknown."""
    return installed("ovn-controller") or _first(registry.here().manager.offered("ovn-host"))


def written(cloud: Cloud) -> str:
    """In which this controller writes flows; empty where unknown."""
    return cloud.settings.nodes.ovn or installed()


def reads(node: str, controller: str) -> bool:
    """Whether an ovn-controller of the one series reads what an ovn-northd of the other writes.

    A newer one does; the other way OVN promises nothing (ovn-upgrades.rst in its documentation),
    and 23.03 leaves out what it cannot read of 25.03, which is every connection. An unknown series
    is believed to.
    """
    if not (SERIES.fullmatch(node) and SERIES.fullmatch(controller)):
        return True
    return _numbers(node) >= _numbers(controller)


def _numbers(series: str) -> tuple[int, ...]:
    return tuple(map(int, series.split(".")))


def _first(text: str) -> str:
    found = re.search(rf"({SERIES.pattern})\.\d+", text)
    return found[1] if found else ""


# ---- the older one ------------------------------------------------------------------------


def northd(cloud: Cloud) -> str:
    """Which ovn-northd this controller runs."""
    return str(_kept(cloud)) if _wants(cloud) else NORTHD


def _wants(cloud: Cloud) -> bool:
    """Whether the settings name one: also this system's own, which may not be installed yet."""
    return bool(cloud.settings.nodes.ovn)


def _kept(cloud: Cloud) -> Path:
    return cloud.lib / f"ovn-{OLDEST_OVN}" / NORTHD


def there(cloud: Cloud) -> bool:
    """What `northd` names is there."""
    return not _wants(cloud) or installed(str(_kept(cloud))) == OLDEST_OVN


def fetch(cloud: Cloud, step: Step) -> None:
    """Take it from Debian's archive; Problem where that cannot be reached."""
    kept, source = _kept(cloud), apt.Source(cloud.settings.image.mirror, SUITE, KEYRING)
    architecture = packages_architecture(os_release().family)
    step.note(f"OVN {OLDEST_OVN} from {source.mirror}")
    with TemporaryDirectory(dir=cloud.lib, prefix=".ovn-") as work:
        packages = debs.fetch_exactly(
            source, architecture, ["ovn-central"], Path(work), without=THERE
        )
        root = Path(work) / "root"
        debs.unpack(packages, root)
        kept.parent.mkdir(exist_ok=True)
        kept.parent.chmod(0o755)
        shutil.copyfile(root / "usr" / "bin" / NORTHD, kept.with_suffix(".new"))
    kept.with_suffix(".new").chmod(0o755)
    kept.with_suffix(".new").rename(kept)
