"""`dozen certs`."""

from __future__ import annotations

import click

from dozencloud.cli.common import Invocation, pass_invocation, say


@click.group()
def certs() -> None:
    """Certificates of the cloud and its nodes.

    \b
    Example:
      sudo ./dozen certs rotate
    """


@certs.command()
@pass_invocation
def rotate(invocation: Invocation) -> None:
    """Replace all certificates but that of the cloud's own authority.

    They are renewed by themselves before they end. This is for one that somebody may have copied.
    """
    cloud = invocation.as_admin("certs", "rotate", verb="rotate")
    from dozencloud.lifecycle.lock import locked
    from dozencloud.nodes.controller import rotation

    with locked(cloud):
        missing = rotation.rotate(cloud, lambda text: say(f"  {text}"))
    say("The certificates are new.")
    if missing:
        say(f"Not heard of: {', '.join(missing)}. They fetch theirs when they are back.")
