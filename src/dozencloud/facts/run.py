"""Ask a program something, without a shell, with a limit in time."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

# cron and some sudo settings leave out sbin, where nft and modprobe live.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Answer:
    """What a program said; `code` is None if it is missing or took too long."""

    code: int | None
    output: str
    error: str

    @property
    def ok(self) -> bool:
        return self.code == 0


def ask(*command: str, timeout: float = 5.0, input: str = "") -> Answer:
    """Run `command` in the C locale, so that its words can be read by a parser."""
    environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/")}
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return Answer(None, "", f"{command[0]} is not installed")
    except PermissionError:
        return Answer(None, "", f"{command[0]} may not be run")
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"{command[0]} did not answer within {timeout:g} s")
    return Answer(done.returncode, done.stdout, done.stderr)
