"""What Jolokia does and does not say is told by its cause."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, PermanentError, Unauthorized, Unreachable
from include.engine.systems.cassandra.control import Jolokia, Nodetool
from include.engine.systems.cassandra.transport import CommandTransport


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (ssl.SSLCertVerificationError("certificate has expired"), Unauthorized),
        (ssl.SSLError("tlsv13 alert certificate required"), Unauthorized),
        (ssl.SSLEOFError("EOF occurred in violation of protocol"), Unreachable),
        (ConnectionResetError("Connection reset by peer"), Unreachable),
        (TimeoutError("timed out"), Unreachable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_only_a_certificate_that_is_refused_is_a_matter_for_a_person(
    monkeypatch: pytest.MonkeyPatch, happens: Exception, expected: type[MainstayError]
) -> None:
    def exchange(*_: object, **__: object) -> tuple[int, bytes]:
        raise happens

    monkeypatch.setattr(Jolokia, "_exchange", exchange)
    with pytest.raises(expected, match=str(happens)):
        Jolokia("node", 8778, Connection()).answer()


def test_the_cause_of_an_error_is_told_however_long_the_paths_before_it_are(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/{'long/' * 100}oa-1-big-Data.db"
    body = f'{{"status": 500, "error": "FSWriteError : {path} -> {path}: No space left on device"}}'.encode()
    monkeypatch.setattr(Jolokia, "_exchange", lambda *_, **__: (200, body))
    with pytest.raises(PermanentError, match=r"^Jolokia on node:8778 failed: FSWriteError") as told:
        Jolokia("node", 8778, Connection()).answer()
    assert told.value.message.endswith("No space left on device")
    assert len(told.value.message) < 500
    assert "free space" in told.value.hint


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            "error: FSDiskFullWriteError: java.io.IOException: Insufficient disk space to write 100 bytes into the shop keyspace",
            "nodetool snapshot failed: Insufficient disk space",
            "free space",
        ),
        ("error: Keyspace shop does not exist", "a script failed", "Keyspace shop does not exist"),
    ],
    ids=["a full disk", "anything else"],
)
def test_a_disk_without_room_is_told_as_that_by_nodetool_too(said: str, message: str, hint: str) -> None:
    nodetool = Nodetool(CommandTransport("local shell", ["sh", "-s"]), ["sh", "-c", f"echo '{said}' >&2; exit 2"])
    with pytest.raises(PermanentError, match=message) as told:
        nodetool.snapshot("tag", ["shop"], timedelta(hours=1))
    assert hint in told.value.hint


@pytest.fixture
def by_halves() -> Iterator[int]:
    """A server that writes each answer's head and body by themselves, as the one in Java does; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            link, _ = listening.accept()
            with link, link.makefile("rb") as asked:
                for line in asked:
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                    if line == b"\r\n":
                        asked.read(length)
                        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\n")
                        link.sendall(b'{"status": 200, ')
                        link.sendall(b'"value": "NORMAL"}')

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def test_the_body_of_an_answer_does_not_wait_until_its_head_is_acknowledged(by_halves: int) -> None:
    node, times = Jolokia("127.0.0.1", by_halves, Connection()), []
    for _ in range(12):
        began = time.monotonic()
        assert node.answer() == "NORMAL"
        times.append(time.monotonic() - began)
    assert min(times[4:]) < 0.03  # the first ones on a connection are acknowledged at once anyway
