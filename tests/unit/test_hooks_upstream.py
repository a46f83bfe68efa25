"""Upstream is still what the hooks rely on."""

from __future__ import annotations

import importlib
import inspect
from functools import reduce
from typing import Any

import pytest

from dozencloud.hooks import upstream


def upstream_object(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


@pytest.mark.parametrize("name", upstream.REPLACED)
def test_what_is_replaced_is_there_with_these_parameters(name: str) -> None:
    assert tuple(inspect.signature(upstream_object(name)).parameters) == upstream.REPLACED[name]


@pytest.mark.parametrize("name", upstream.USED)
def test_what_is_used_is_there(name: str) -> None:
    assert upstream_object(name) is not None
