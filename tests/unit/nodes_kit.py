"""What tests of nodes share."""

from __future__ import annotations

from dozencloud.cloud.membership import Member, Membership
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
MEMBER = Member("pi-1", 1, "c", "192.0.2.1", "compute", "", "", 0.0)
GIVEN = Membership(
    controller="https://192.0.2.1:8443",
    node="pi-1",
    number=1,
    address="192.0.2.9",
    broker=5671,
    southbound=6642,
    mtu=1500,
    broker_password="b" * 48,
    identity_password="i" * 48,
    secret="s" * 48,
)
