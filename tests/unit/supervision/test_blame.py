"""Which errors of a service are the client's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

from dozencloud.supervision import blame


def raised(code: str, filename: str, function: str = "handle") -> BaseException:
    """An exception as if it came from that function of a file."""
    source = f"def {function}(call):\n    return call() if call else ({code})\n"
    made: CodeType = compile(source, filename, "exec")
    names: dict[str, Any] = {}
    exec(made, names)  # noqa: S102
    with pytest.raises(Exception) as caught:
        names[function](None)
    return caught.value


def through(inner: Callable[[], Any], filename: str, function: str) -> BaseException:
    names: dict[str, Any] = {}
    exec(compile(f"def {function}(call):\n    call()\n", filename, "exec"), names)  # noqa: S102
    with pytest.raises(Exception) as caught:
        names[function](inner)
    return caught.value


SITE = "/opt/dozencloud/env-0123456789ab/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("code", "file", "function", "clients"),
    [
        ("None.strip()", "neutron/extensions/rbac.py", "convert", True),
        ("1 in 5", "neutron_lib/api/validators/x.py", "check", True),
        ("{}['a']", "nova/api/openstack/x.py", "create", True),
        ("int('a')", "keystone/server/flask/common.py", "hints", True),
        ("{[]: 1}", "glance_store/multi_backend.py", "get", True),
        ("None.strip()", "neutron/plugins/ml2/plugin.py", "create_port", False),
        ("None.strip()", "dozencloud/hooks/glance.py", "upload", False),
        ("1 / 0", "neutron/extensions/rbac.py", "convert", False),
        ("None.strip()", "netaddr/ip.py", "parse", False),
        ("None.strip()", "netaddr/ip.py", "convert_values", True),
    ],
)
def test_errors_of_those_who_read_requests_are_the_clients(
    code: str, file: str, function: str, clients: bool
) -> None:
    assert blame.is_clients(raised(code, f"{SITE}/{file}", function)) is clients


def test_below_the_readers_it_is_the_services() -> None:
    def inner() -> None:
        raise raised("None.strip()", f"{SITE}/neutron/db/x.py")

    assert not blame.is_clients(through(inner, f"{SITE}/neutron/api/v2/base.py", "create"))


def test_what_the_database_has_no_room_for_is_the_clients() -> None:
    made = type("DBDataError", (Exception,), {})
    assert blame.is_clients(made("1264"))
    unbindable = type("DBError", (Exception,), {})("text for a date")
    assert not blame.is_clients(unbindable)
    unbindable.inner_exception = type("StatementError", (Exception,), {"orig": ValueError()})()
    assert blame.is_clients(unbindable)
    assert not blame.is_clients(type("DBConnectionError", (Exception,), {})("2013"))


def test_what_is_logged_in_a_request_is_heard_and_nothing_else() -> None:
    log = logging.getLogger("blame.test")
    blame.listen()

    def fail() -> None:
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("failed")

    fail()
    with blame.hearing() as caught:
        fail()
        log.error("no exception")
    assert [type(each) for each in caught] == [ValueError]
