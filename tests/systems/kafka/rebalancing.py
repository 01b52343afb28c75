"""A fake in front of a real Connect worker: it says 409 to the first requests, as Connect does while it rebalances."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from include.engine.contracts import Connection

SAID = "Cannot complete request momentarily due to stale configuration (typically caused by a concurrent config change)"


class Rebalancing:
    """The proxy.  It passes everything on to the worker when it has refused enough.

    :param port: of the worker
    :param refusals: how many requests it refuses first
    """

    def __init__(self, port: int, *, refusals: int) -> None:
        self.refusals = refusals
        self.refused = 0
        self.passed: list[tuple[str, str]] = []
        self._worker = f"http://127.0.0.1:{port}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def connection(self) -> Connection:
        return Connection(host="127.0.0.1", port=self._server.server_port, schema="http")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        if self.refused < self.refusals:
            self.refused += 1
            return 409, json.dumps({"error_code": 409, "message": SAID}).encode()
        self.passed.append((method, path))
        request = urllib.request.Request(self._worker + path, data=body, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as told:
                return told.status, told.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline()
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                length = int(self.headers.get("Content-Length") or 0)
                status, raw = proxy.answer(self.command, self.path, self.rfile.read(length) if length else None)
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler
