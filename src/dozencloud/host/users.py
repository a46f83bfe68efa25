"""System users of the services: no password, no shell, no home."""

from __future__ import annotations

import grp
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

from dozencloud.errors import Problem
from dozencloud.facts.run import ask
from dozencloud.tasks.graph import Step

NOLOGIN = "/usr/sbin/nologin"
IN_USE = 9
"""Exit status of useradd(8) and groupadd(8): another cloud of the machine made it just now."""


def missing(users: Mapping[str, str]) -> set[str]:
    """Those of `users` (name -> group beside its own, or none) that are not here as wished."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    members = {entry.gr_name: entry.gr_mem for entry in grp.getgrall()}
    return {u for u, g in users.items() if u not in names or (g and u not in members.get(g, []))}


def create(step: Step, users: Mapping[str, str]) -> None:
    """Make the users (name -> group beside its own, or none) and groups that are missing."""
    for group in sorted(set(users.values()) - {"", *(entry.gr_name for entry in grp.getgrall())}):
        _add(step, ["groupadd", "--system", group])
    names = {entry.pw_name for entry in pwd.getpwall()}
    for user, groups in sorted(users.items()):
        made = [
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", "/nonexistent", "--shell", NOLOGIN, "--groups", groups, user),
        ]
        if (user in names or not _add(step, made)) and groups:
            step.run(["usermod", "--append", "--groups", groups, user])


def _add(step: Step, words: list[str]) -> bool:
    """Whether it was added; false if it is there."""
    done = step.run(words, check=False)
    if done.returncode not in (0, IN_USE):
        raise Problem(f"{words[0]} ended with status {done.returncode}.", detail=done.stderr)
    return done.returncode == 0


def remove(prefix: str, group: str) -> list[str]:
    """Delete all users whose name starts with `prefix`, and the group; returns their names."""
    gone = [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith(prefix)]
    for user in gone:
        ask("userdel", user, timeout=60)
    if any(entry.gr_name == group for entry in grp.getgrall()):
        ask("groupdel", group, timeout=60)
    return gone


def own(path: Path, user: str, group: str | None = None) -> None:
    """Give the file to a user; it has no group rights unless `group` says so."""
    shutil.chown(path, user, group or pwd.getpwnam(user).pw_gid)
