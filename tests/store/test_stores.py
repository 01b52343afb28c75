"""How requests to a store are made."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from include.engine.contracts import Connection
from include.engine.store.bucket import Bucket


@contextmanager
def listening(host: str) -> Iterator[tuple[str, list[str]]]:
    """A store that takes everything and remembers what the signature says of each body."""
    said: list[str] = []

    class Taking(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            said.append(self.headers["x-amz-content-sha256"])
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer((host, 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}", said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stored(endpoint: str) -> None:
    connection = Connection(login="key", password="secret", extra={"endpoint_url": endpoint})
    assert Bucket.open("s3://bucket/prefix", connection).create("x", b"body")


def test_a_body_that_does_not_leave_the_machine_is_not_hashed_for_its_signature() -> None:
    with listening("127.0.0.1") as (endpoint, said):
        stored(endpoint)
    assert said == ["UNSIGNED-PAYLOAD"]


def test_on_a_plain_network_the_signature_covers_the_body() -> None:
    with listening("127.0.0.2") as (endpoint, said):  # for all that the client knows, another machine
        stored(endpoint)
    assert said == [hashlib.sha256(b"body").hexdigest()]
