"""All that is made: tables, by the names that the documents call them by, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import house
from made import accounts, commands, files, packages, services, settings, tasks

TABLES: Mapping[str, Callable[[], str]] = {
    "options before the command": commands.first_options_table,
    **{
        f"options of {name}": partial(commands.options_table, name)
        for name in commands.with_options()
    },
    "exit statuses": commands.exits_table,
    "settings": settings.settings_table,
    "readable files": files.readable_table,
    "users": services.users_table,
    "listeners": services.listeners_table,
    "tasks": tasks.tasks_table,
    "accounts": accounts.accounts_table,
    "rights": accounts.rights_table,
    "packages": packages.packages_table,
    "wings": house.wings_table,
}
PICTURES: Mapping[str, Callable[[], str]] = {"house.svg": house.picture}
"""Name of the file in docs/ -> its text."""
