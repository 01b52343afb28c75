"""Every system that accepts and never answers, or answers nonsense: it costs its time-out, and is told as what it is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from include.engine import lookout
from include.engine.contracts import Connection
from tests.integration.sweeping import Sweeping

TIMEOUT = 3.0
BACK_IN = TIMEOUT + 1.0 + 4.0  # the grace of a probe, and what a busy machine takes for the rest

FLOWS = {"users": {"shape": "users", "topic": "users", "table": "a.users"}}
STREAM = {"checkpoint": "s3://streams/main", "connection": "store", "kafka": "it", "cassandra": "it", "flows": FLOWS}
WATCHED: dict[str, dict[str, Any]] = {
    "kafka": {"kafka": {"main": {"connection": "it"}}},
    "cassandra": {"cassandra": {"main": {"connection": "it"}}},
    "spark": {"spark": {"main": STREAM}},
    "airflow": {"sweep": {"airflow": {"main": {"connection": "it"}}}},
    "http": {"sweep": {"endpoints": {"it": {"url": "http://127.0.0.1:PORT/"}}}},
    "backups": {"store": {"url": "s3://backups/shop", "connection": "store"}},
}


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """The clients, which probes import when they are first asked: that this takes seconds is not the silent system's doing."""
    for name in ("boto3", "cassandra.cluster", "confluent_kafka", "kafka", "obstore.store"):
        import_module(name)


@contextlib.contextmanager
def odd(says: bytes | None) -> Iterator[int]:
    """A server that says one thing to whatever it is asked, or nothing at all; gives its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        kept = []

        def talk(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):  # who asked has gone
                while peer.recv(4096):
                    peer.sendall(says or b"")

        def accept() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                kept.append(peer)
                if says is not None:
                    threading.Thread(target=talk, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        for peer in kept:
            peer.close()


def sweeping_of(system: str, port: int, folder: Path) -> Sweeping:
    settings: dict[str, Any] = {"postgres": {"main": {"connection": "nobody"}}} | WATCHED[system]
    settings["sweep"] = {"timeout": f"{TIMEOUT:g}s", **settings.get("sweep", {})}
    known = {
        "it": Connection(host="127.0.0.1", port=port, login="mainstay", password="s3cr3t-of-theirs"),
        "store": Connection(
            login="key",
            password="s3cr3t-of-theirs",
            extra={"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "x"},
        ),
    }
    made = Sweeping(folder, known, settings)
    made.path.write_text(made.path.read_text().replace("PORT", str(port)))
    return made


@pytest.mark.parametrize("says", [None, b"\x00\x01HTTP/9.9 what do you want?\r\n\r\n"], ids=["silent", "nonsense"])
@pytest.mark.parametrize("system", WATCHED)
def test_a_system_that_never_answers_or_answers_nonsense_costs_its_time_out_only(
    system: str, says: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    with odd(says) as port:
        sweeping = sweeping_of(system, port, tmp_path)
        began = time.monotonic()
        report = sweeping.sweep(system)
        took = time.monotonic() - began
    assert took < BACK_IN
    found = {one.rule for one in report.findings}
    assert found & {"unreachable", "unread"}
    assert found <= {"unreachable", "unread", "absent"}
    assert sum(len(look.readings) for look in report.looks) == 0
    assert "s3cr3t" not in str(report)
