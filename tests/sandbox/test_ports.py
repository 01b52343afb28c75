"""Ports are free when they are given out, and a busy one is reported with its holder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.engine.errors import Contended, Misconfigured
from include.engine.sandbox import ports
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerSpec


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def test_a_free_port_can_be_listened_on_and_no_outgoing_connection_takes_it() -> None:
    port = ports.free_port()
    assert ports.is_free(port)
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 <= port < first_ephemeral


def test_a_busy_port_is_reported_with_the_process_that_holds_it(busy_port: int) -> None:
    with pytest.raises(Contended, match=rf"Port {busy_port}.* process {os.getpid()} \(") as caught:
        ports.require_free("postgres-main", busy_port)
    assert "MAINSTAY_PORT_POSTGRES_MAIN" in caught.value.hint


def test_a_port_that_is_held_on_all_addresses_is_busy() -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        with pytest.raises(Contended):
            ports.require_free("kafka", holder.getsockname()[1])


def test_a_port_is_free_again_as_soon_as_its_server_has_closed_its_connections() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the server closes first: its side stays in TIME_WAIT
            assert client.recv(1) == b""
    assert ports.is_free(port)


def test_a_server_whose_port_is_busy_is_not_started(sandbox: Sandbox, busy_port: int) -> None:
    server = sandbox.server("busy")
    spec = ServerSpec(command=["sleep", "1000"], directory=sandbox.directory("busy"), ports={"busy": busy_port})
    with pytest.raises(Contended, match=f"Port {busy_port}, which busy needs"):
        server.start(spec)
    assert not server.running
    assert server.start(replace(spec, ports={}))
    server.stop()


def test_the_variable_moves_a_server_to_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ports.fixed_port("kafka-main", 9092) == 9092
    monkeypatch.setenv("MAINSTAY_PORT_KAFKA_MAIN", "19092")
    assert ports.fixed_port("kafka-main", 9092) == 19092


@pytest.mark.parametrize("text", ["kafka", "0", "65536", "-1", "90 92"])
def test_a_variable_that_holds_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MAINSTAY_PORT_KAFKA", text)
    with pytest.raises(Misconfigured, match="MAINSTAY_PORT_KAFKA"):
        ports.fixed_port("kafka", 9092)


def test_a_server_keeps_the_port_that_was_chosen_for_it(sandbox: Sandbox) -> None:
    first, second = sandbox.port("one"), sandbox.port("two")
    assert first != second
    assert sandbox.port("one") == first


def test_ports_that_are_asked_for_together_are_different(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([20_001, 20_001, 20_002])
    monkeypatch.setattr(ports, "free_port", lambda: next(given))
    assert set(ports.free_ports(2)) == {20_001, 20_002}


def test_a_port_that_a_variable_gives_to_another_server_is_not_chosen(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is free until that server is started."""
    given = iter([20_001, 20_002])
    monkeypatch.setenv(ports.variable_of("airflow"), "20001")
    monkeypatch.setattr("include.engine.sandbox.home.free_port", lambda: next(given))
    assert sandbox.port("beside-airflow") == 20_002


def test_two_runs_side_by_side_never_choose_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for run in (0, 1):
        monkeypatch.setenv(ports.RANGE, ports.halves(run))
        chosen.append({ports.free_port() for _ in range(20)})
    assert not chosen[0] & chosen[1]
    assert max(chosen[0]) < min(chosen[1])


@pytest.mark.parametrize("text", ["20000", "20000-", "b-c", "3000-2000", "1-70000"])
def test_a_range_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(ports.RANGE, text)
    with pytest.raises(Misconfigured, match="is not a range of ports"):
        ports.free_port()
