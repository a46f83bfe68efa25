"""Ports of serial consoles."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("libvirt")

from nova.console import serial
from nova.exception import SocketPortRangeExhaustedException

from dozencloud.compute.libvirt import serialports

HERE = "127.0.0.1"
UPSTREAM = serial.acquire_port


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[range]:
    monkeypatch.setattr(serial, "ALLOCATED_PORTS", set())
    serial.CONF.set_override("port_range", "30100:30104", "serial_console")
    yield range(30100, 30104)
    serial.CONF.clear_override("port_range", "serial_console")


def test_a_port_released_twice_is_not_given_to_two_servers(ports: range) -> None:
    first = serialports.acquire(HERE)
    serial.release_port(HERE, first)  # its server stops
    others = {serialports.acquire(HERE) for _ in range(len(ports) - 1)}
    assert first not in others
    serial.release_port(HERE, first)  # its domain is destroyed once more
    assert serialports.acquire(HERE) == first


def test_it_is_called_as_upstream_calls_its_own() -> None:
    original = inspect.signature(UPSTREAM)
    assert list(original.parameters) == list(inspect.signature(serialports.acquire).parameters)


def test_ports_in_use_are_passed_over(ports: range) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HERE, ports[1]))
        other.listen()
        given = {serialports.acquire(HERE) for _ in range(len(ports) - 1)}
        assert given == set(ports) - {ports[1]}
        with pytest.raises(SocketPortRangeExhaustedException):
            serialports.acquire(HERE)
