"""An administrator brings back a shelved server, whatever is left of its project's quota.

Nova counts the cores and the memory of a server that comes back against the limits of its project
(nova/compute/api.py, _check_quota_unshelve_offloaded), also where it is the administrator who had
shelved it, to empty a node.
"""

from __future__ import annotations

from typing import Any

from nova.compute.api import API


def use() -> None:
    """Count for those only who are no administrators."""
    upstream = API._check_quota_unshelve_offloaded

    def check(context: Any, instance: Any, request_spec: Any) -> None:
        if not context.is_admin:
            upstream(context, instance, request_spec)

    API._check_quota_unshelve_offloaded = staticmethod(check)
