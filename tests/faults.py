"""A wire to the object store that can be cut, slowed down, or answer for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_METHODS = tuple(f"{method} /".encode() for method in ("GET", "HEAD", "PUT", "POST", "DELETE"))


class Wire:
    """A TCP proxy on loopback; *verdict* says for each connection's first bytes what becomes of it.

    ``None`` lets it through; bytes are answered instead of the store; a number cuts it after so many bytes upstream.

    :ivar rate: bytes per second that each connection carries upstream at most; None for as many as it can
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.verdict: Callable[[bytes], bytes | int | None] = lambda _: None
        self.rate: float | None = None
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            first = near.recv(65536)
            if not first:
                return
            self.requests.append(first.split(b"\r\n", 1)[0].partition(b"?")[0])
            what = self.verdict(first)
            if isinstance(what, bytes):
                near.sendall(what)
                return
            if what == 0:
                return
            with socket.create_connection(self._upstream) as far:
                far.sendall(first)
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                left = what
                while chunk := near.recv(65536):
                    if chunk.startswith(_METHODS):  # the next request of a connection that is kept
                        self.requests.append(chunk.split(b"\r\n", 1)[0].partition(b"?")[0])
                    if left is not None:
                        left -= len(chunk)
                        if left < 0:
                            return
                    far.sendall(chunk)
                    if self.rate is not None:
                        time.sleep(len(chunk) / self.rate)
                far.shutdown(socket.SHUT_WR)
                back.join(timeout=30)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


class Gate:
    """A TCP proxy on loopback that can be shut, which also ends what goes through it, and opened again."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._shut = threading.Event()
        self._lock = threading.Lock()  # nobody slips through who was let in just before it was shut
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        with self._lock:
            self._shut.set()
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self._shut.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            if self._shut.is_set():
                return
            with socket.create_connection(self._upstream) as far:
                with self._lock:
                    if self._shut.is_set():
                        return
                    self._ends += [near, far]
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join(timeout=30)
