"""Prefers hardware to emulation."""

from __future__ import annotations

from typing import Any

from nova.objects.fields import HVType
from nova.scheduler.weights import BaseHostWeigher


class HardwareWeigher(BaseHostWeigher):  # type: ignore[misc]  # nova is untyped
    """Hosts whose processor runs the image's architecture come first."""

    minval, maxval = 0.0, 1.0

    def weight_multiplier(self, host_state: Any) -> float:
        """More than free memory, CPUs, disk together (1 each); less than failed builds (10^6)."""
        return 100.0

    def _weigh_object(self, host_state: Any, request: Any) -> float:
        architecture = request.image.properties.get("hw_architecture") if request.image else None
        kinds = {
            kind for arch, kind, _ in host_state.supported_instances or () if arch == architecture
        }
        return 1.0 if HVType.KVM in kinds else 0.0
