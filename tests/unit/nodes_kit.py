"""What tests of nodes share."""

from __future__ import annotations

from dozencloud.nodes.reports import Report

REPORT = Report(
    release="0.1.0",
    architecture="aarch64",
    board="Raspberry Pi 4 Model B Rev 1.4",
    clusters=(("Cortex-A72", 4),),
    kvm=True,
    aarch32=True,
    memory=3790,
    available=3000,
    disk=29000,
    free=20000,
    temperature=48.2,
    issuer="ab12",
    clock=1.0,
)
