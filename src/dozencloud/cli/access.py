"""`dozen env`, `dozen openstack`, `dozen ssh`, `dozen console`: ways into the cloud."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from dozencloud.cli.common import Invocation, Name, pass_invocation, say, say_text


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["sh", "yaml"]),
    default="sh",
    show_default=True,
    help="Lines for a shell, or the content of clouds.yaml.",
)
@pass_invocation
def env(invocation: Invocation, form: str) -> None:
    """Print the settings that OpenStack clients need.

    Run through sudo by another user than root, the lines hold the password itself, since that
    user cannot read clouds.yaml.

    \b
    Examples:
      eval "$(sudo ./dozen env)"; openstack server list
      sudo ./dozen env --format yaml > clouds.yaml
    """
    cloud = invocation.existing()
    from dozencloud.access import client

    path = client.clouds_yaml(cloud)
    if form == "yaml":
        say_text(path.read_text())
        return
    others = os.environ.get("SUDO_UID", "0") != "0"
    for line in client.exports(path, Path(sys.prefix), for_others=others):
        say(line)


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_invocation
def openstack(invocation: Invocation, arguments: tuple[str, ...]) -> None:
    """Run the OpenStack client as administrator.

    Everything after `openstack` goes to the client as it is, --help too.

    \b
    Examples:
      sudo ./dozen openstack server list
      sudo ./dozen openstack server create --help
    """
    cloud = invocation.existing()
    from dozencloud.access import client
    from dozencloud.supervision.client import need_running

    path = client.clouds_yaml(cloud)
    if not {"--help", "-h", "--version", "help"} & set(arguments):
        need_running(cloud, "openstack", *arguments)
    program = [sys.executable, "-I", "-m", "dozencloud.access.openstackclient"]
    environment = client.environment(os.environ, path)
    os.execve(sys.executable, [*program, *arguments], environment)  # noqa: S606


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", type=Name())
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_invocation
def ssh(invocation: Invocation, name: str, command: tuple[str, ...]) -> None:
    """Log in to a server by its name.

    Goes to its floating IP as the user `dozen`: as administrator of this machine's cloud with the
    cloud's own key. Where OS_CLOUD or OS_AUTH_URL is set: to a server that the user whom the
    environment names may see, with the keys that ssh knows.

    \b
    Examples:
      sudo ./dozen ssh first
      sudo ./dozen ssh first uname -m
      OS_CLOUD=course ./dozen ssh exercise-1
    """
    sdk = invocation.connection("ssh", name)
    from dozencloud.access import client, ssh

    server = client.find_server(sdk, name)
    client.need_on(server)
    address = client.floating_ip(sdk, server)
    words = ssh.ssh(invocation.cloud, address, *command)
    os.execvp(words[0], words)  # noqa: S606


@click.command()
@click.argument("server", type=Name())
@click.option(
    "--url",
    "as_url",
    is_flag=True,
    help="Print the address of a page that shows the console in a browser; good for 10 minutes.",
)
@pass_invocation
def console(invocation: Invocation, server: str, as_url: bool) -> None:
    """Open the serial console of a server; Ctrl-] ends it.

    As administrator of this machine's cloud. Where OS_CLOUD or OS_AUTH_URL is set: as the user,
    and in the cloud, that the environment names.

    \b
    Examples:
      sudo ./dozen console first
      sudo ./dozen console --url first
      OS_CLOUD=course ./dozen console exercise-1
    """
    from dozencloud.access import client
    from dozencloud.access import console as consoles

    if not as_url:
        consoles.need_terminal()
    sdk = invocation.connection("console", *(["--url"] if as_url else []), server)
    url = consoles.address(sdk, server)
    if as_url:
        say(consoles.page(url))
        return
    say(f"Serial console of {server}. Press Enter if nothing appears; Ctrl-] ends it.")
    consoles.attach(url, client.trust(sdk))
    say()
