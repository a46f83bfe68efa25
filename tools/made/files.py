"""Files of a cloud that everybody may read."""

from __future__ import annotations

from dozencloud.cloud import folders
from dozencloud.cloud.installation import Cloud
from made.markdown import code, table


def readable_table() -> str:
    """With the paths of the machine's own cloud."""
    rows = [(code(str(path)), why) for path, why in folders.readable(Cloud()).items()]
    return table(("readable by everybody", "why"), rows)
