"""Nova without paths of files in what users are told of a failed server.

Upstream puts the message of an exception into a server's fault and into the events of its
actions (nova/compute/utils.py, exception_to_dict); many of them name files of the node, or hold
whole command lines.
"""

from __future__ import annotations

from typing import Any

from nova.compute import utils

from dozencloud.scrub import scrub

of_upstream = utils.exception_to_dict


def exception_to_dict(fault: Any, message: str | None = None) -> dict[str, Any]:
    told: dict[str, Any] = of_upstream(fault, message)
    return told | {"message": scrub(told["message"])}


def use() -> None:
    """Put it in upstream's place."""
    utils.exception_to_dict = exception_to_dict
