"""What a command needs before it begins: root, a cloud, and that it is on this machine."""

from __future__ import annotations

import os

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import membership
from dozencloud.errors import Exit, Problem


def need_root(cloud: Cloud, *words: str) -> None:
    """Problem unless we are root. words: the command that the person typed."""
    if os.geteuid():
        raise Problem("This needs root.", f"Run: {cloud.command(*words)}", code=Exit.UNFIT)


def need_cloud(cloud: Cloud, verb: str = "") -> None:
    """Problem unless there is a cloud.

    verb: what the person wants to do with it, where nobody wants that of a new one.
    """
    if not cloud.exists:
        where = f" under {cloud.root}" if cloud.root else " on this machine"
        what, mend = f"There is no cloud{where}.", f"Run: {cloud.command('up')}"
        if verb:
            what, mend = f"There is no cloud{where}, so there is nothing to {verb}.", ""
        raise Problem(what, mend, code=Exit.NO_CLOUD)


def need_controller(cloud: Cloud, *words: str) -> None:
    """Problem on a node: the cloud is elsewhere. words: the command that the person typed."""
    if given := membership(cloud):
        raise Problem(
            f"This machine is {given.node}, a node; the cloud is on {given.host}.",
            f"Run on {given.host}: {cloud.command(*words)}",
        )
