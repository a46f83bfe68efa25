"""Upstream is still what the hooks rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from dozencloud.hooks import upstream

LOOK = """
import importlib, inspect, json, sys
from functools import reduce
found = {}
for name in sys.argv[1:]:
    module, _, path = name.partition(":")
    try:
        it = reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        continue
    try:
        found[name] = list(inspect.signature(it).parameters)
    except (TypeError, ValueError):
        found[name] = []
print("FOUND" + json.dumps(found))
"""


@cache
def found(package: str) -> dict[str, list[str]]:
    """Names of one service -> parameters. In a process of its own: two services' options clash."""
    names = [n for n in (*upstream.REPLACED, *upstream.USED) if n.startswith(package)]
    words = [sys.executable, "-W", "ignore", "-c", LOOK, *names]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    answer: dict[str, list[str]] = json.loads(said.rpartition("FOUND")[2])
    return answer


def parameters(name: str) -> list[str] | None:
    return found(name.partition(":")[0].partition(".")[0]).get(name)


@pytest.mark.parametrize("name", upstream.REPLACED)
def test_what_is_replaced_is_there_with_these_parameters(name: str) -> None:
    assert parameters(name) == list(upstream.REPLACED[name])


@pytest.mark.parametrize("name", upstream.USED)
def test_what_is_used_is_there(name: str) -> None:
    assert parameters(name) is not None
