"""How the driver says no to a server: once, in one sentence, to its user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nova.exception import BuildAbortException

from dozencloud.errors import Problem


class Refused(BuildAbortException):  # type: ignore[misc]  # nova is untyped
    """Nova tries no other node after it, and shows the reason alone as the server's fault."""

    msg_fmt = "%(reason)s"


@contextmanager
def refusing(uuid: str) -> Iterator[None]:
    """Turn a Problem into what Nova understands. uuid: of the server."""
    try:
        yield
    except Problem as problem:
        reason = f"{problem.what} {problem.mend}".strip()
        raise Refused(instance_uuid=uuid, reason=reason) from problem
