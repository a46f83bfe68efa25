"""Whether an error in a service is the client's: it sent what the service could not work with.

Upstream tells clients so where it checked; where it did not, Python's own exceptions end a
request with the status 500, as a fault of the service does. They are told apart by where they were
raised: in the part of the service that reads requests, or by the database about a value.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DATA_ERRORS = ("DataError", "DBDataError")
"""PyMySQL's and oslo.db's, for values that a column has no room for."""
UNREADABLE = (TypeError, ValueError, AttributeError, LookupError)
"""What Python raises where a value is not what the code takes it for."""
SERVICES = re.compile(
    r"-packages/((?:dozencloud|glance|glance_store|keystone|neutron|neutron_lib|nova|placement)/.*)"
)
READERS = re.compile(
    r"glance/(?:api|common)/|glance_store/multi_backend\.py|keystone/(?:api|server)/"
    r"|neutron/(?:api|extensions|pecan_wsgi)/|neutron_lib/api/|nova/api/|placement/handlers/"
    # A router that a port names, and that is none.
    r"|neutron/common/ovn/utils\.py"
)
"""Files that read requests."""
CONVERTERS = {"convert_values", "coerce"}
"""Functions that take values of requests to what the service works with (neutron_lib,
oslo.versionedobjects), whatever they call."""

_caught: ContextVar[list[BaseException] | None] = ContextVar("caught", default=None)


def is_clients(error: BaseException) -> bool:
    if type(error).__name__ in DATA_ERRORS:
        return True
    if type(error).__name__ == "DBError":
        return _unbindable(error)
    if not isinstance(error, UNREADABLE):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name in CONVERTERS for frame in frames):
        return True
    inside = [found[1] for frame in frames if (found := SERVICES.search(frame.filename))]
    return bool(inside) and READERS.match(inside[-1]) is not None


def _unbindable(error: BaseException) -> bool:
    """Whether a value could not even be sent to the database (SQLAlchemy's StatementError)."""
    statement = getattr(error, "inner_exception", None)
    return isinstance(getattr(statement, "orig", None), UNREADABLE)


class Listener(logging.Handler):
    """Hears the exceptions that a service logs before it answers with the status 500."""

    def emit(self, record: logging.LogRecord) -> None:
        caught = _caught.get()
        if caught is not None and record.exc_info and record.exc_info[1]:
            caught.append(record.exc_info[1])


def listen() -> None:
    """Begin to hear, after the service has set up its log."""
    root = logging.getLogger()
    if not any(isinstance(handler, Listener) for handler in root.handlers):
        root.addHandler(Listener(logging.ERROR))


@contextmanager
def hearing() -> Iterator[list[BaseException]]:
    """The exceptions that are logged inside."""
    caught: list[BaseException] = []
    token = _caught.set(caught)
    try:
        yield caught
    finally:
        _caught.reset(token)
