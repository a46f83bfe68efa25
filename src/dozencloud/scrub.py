"""What is told to users about a failure, without how the machine is made."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_COMMAND = re.compile(r"(?m)^Command: .*$")
FILE = "(a file of the cloud)"


@cache
def _paths() -> re.Pattern[str]:
    """Absolute paths of files. What begins otherwise is an API's address, such as /v2/images."""
    tops = "|".join(sorted(re.escape(each.name) for each in Path("/").iterdir()))
    return re.compile(rf"(?<![\w:/.~-])/(?:{tops})(?:/[\w.,+@%=~-]+)+/?")


def scrub(text: str) -> str:
    """The same without paths of files and command lines."""
    if "/" not in text:
        return text
    return _paths().sub(FILE, _COMMAND.sub("Command: (one of the cloud's)", text))
