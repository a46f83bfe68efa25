"""Supervisor, cheroot and oslo are still what the supervision relies on."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from cheroot import server, wsgi
from cheroot.workers.threadpool import ThreadPool
from supervisor import dispatchers, options
from supervisor.xmlrpc import Faults

from dozencloud.supervision import client, daemon, serve, upstream


def found(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


def tree(name: str) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(found(name))))


def steps(name: str) -> list[str]:
    """What a function calls ("name") and sets ("name ="), from its first line to its last."""
    said: list[tuple[int, int, str]] = []
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            what = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            said.append((node.func.end_lineno or 0, node.func.end_col_offset or 0, what))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            said.append((node.lineno, node.col_offset, f"{node.attr} ="))
    return [what for _, _, what in sorted(said)]


@pytest.mark.parametrize("name", upstream.OVERRIDDEN)
def test_what_is_overridden_is_defined_there_with_these_parameters(name: str) -> None:
    owner, _, method = name.rpartition(".")
    assert method in vars(found(owner))
    assert tuple(inspect.signature(found(name)).parameters) == upstream.OVERRIDDEN[name]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (daemon.Options, options.ServerOptions),
        (daemon.Output, dispatchers.POutputDispatcher),
        (serve.OwnThreads, ThreadPool),
    ],
)
def test_every_override_is_listed_and_takes_what_is_passed(ours: type, theirs: type) -> None:
    listed = set()
    for name, value in vars(ours).items():
        if not inspect.isfunction(value) or name == "__init__" or not hasattr(theirs, name):
            continue
        (owner,) = (each for each in theirs.__mro__ if name in vars(each))
        place = f"{owner.__module__}:{owner.__qualname__}.{name}"
        listed.add(place)
        taken = inspect.signature(value).parameters
        assert len(taken) == len(upstream.OVERRIDDEN[place])
        for parameter in inspect.signature(getattr(theirs, name)).parameters.values():
            if parameter.default is not parameter.empty:
                assert parameter.name in taken
    assert listed


@pytest.mark.parametrize(("name", "reader"), upstream.REPLACED.items())
def test_what_is_replaced_is_looked_up_at_each_call(name: str, reader: str) -> None:
    module, _, attribute = name.partition(":")
    assert inspect.isclass(found(name))
    own = reader.partition(":")[0]
    if own != module:
        # Imported when the function runs, not when its module does.
        assert not hasattr(importlib.import_module(own), attribute)
        assert (module, attribute) in [
            (node.module, alias.name)
            for node in ast.walk(tree(reader))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
    assert attribute in steps(reader)


@pytest.mark.parametrize("name", upstream.ORDER)
def test_things_happen_in_this_order(name: str) -> None:
    order, done = upstream.ORDER[name], steps(name)
    assert set(order) <= set(done)
    for earlier, later in pairwise(order):
        last = len(done) - 1 - done[::-1].index(earlier)
        assert last < done.index(later)


@pytest.mark.parametrize("name", upstream.USED)
def test_what_is_used_is_there(name: str) -> None:
    found(name)


def test_a_server_asks_nothing_else_of_its_threads() -> None:
    asked = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(server)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "requests"
    }
    assert asked == {"start", "put", "stop"}


def test_a_server_takes_what_it_is_given() -> None:
    taken = inspect.signature(wsgi.Server).parameters
    assert {"numthreads", "request_queue_size", "timeout", "shutdown_timeout"} <= set(taken)
    assert list(taken)[:2] == ["bind_addr", "wsgi_app"]


@pytest.mark.parametrize("name", ["ALREADY_ADDED", "ALREADY_STARTED", "NOT_RUNNING", "BAD_NAME"])
def test_faults_have_these_numbers(name: str) -> None:
    assert getattr(client, name) == getattr(Faults, name)
