"""A FAKE of Kubernetes' API, over HTTP: it keeps what it is given, and runs nothing.  No Kubernetes can be started here.

It knows single objects of a namespace, lists by one label, logs, and that a secret goes with the pod that owns it.  Nothing else
of a cluster is in it: no scheduler, no roles, no images.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(r"/api/v1/namespaces/(?P<space>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>log))?")


class FakeKubernetes:
    """What the fake holds, and what was asked of it.

    :ivar stubborn: names of pods that do not go when they are deleted, as on a lost node
    :ivar refuses: a status that every request gets
    """

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.stubborn: set[str] = set()
        self.refuses: int | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pod(self, name: str) -> dict[str, Any]:
        return self.held["pods", name]

    def becomes(self, name: str, phase: str, *, waits: str = "") -> None:
        waiting = {"waiting": {"reason": waits, "message": "no such image"}} if waits else {"running": {}}
        status = {"name": "driver", "state": waiting, "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        self.pod(name)["status"] = {"phase": phase, "containerStatuses": [status]}

    def names(self, kind: str) -> list[str]:
        return sorted(name for held, name in self.held if held == kind)

    def answer(self, method: str, url: str, body: dict[str, Any]) -> tuple[int, Any]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        self.asked.append((method, url, json.dumps(body)))
        found = _PATH.fullmatch(path)
        if self.refuses:
            return self.refuses, {"kind": "Status", "code": self.refuses, "reason": "Refused"}
        if found is None:
            return 404, {"kind": "Status", "code": 404}
        kind, name = found["kind"], found["name"] or body.get("metadata", {}).get("name", "")
        applied = method == "PATCH" and "force=true" in url and (kind, name) not in self.held
        if method == "POST" or applied:
            return self._made(kind, name, body)
        if not name:
            return 200, {"kind": "List", "metadata": {}, "items": self._listed(kind, query)}
        if (kind, name) not in self.held:
            return 404, {"kind": "Status", "code": 404, "reason": "NotFound"}
        if method == "DELETE":
            return 200, self._gone(kind, name)
        if method in ("PATCH", "PUT"):
            self.held[kind, name]["metadata"] |= body["metadata"]
        return 200, "the driver's last words\n" if found["part"] else self.held[kind, name]

    def _made(self, kind: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if (kind, name) in self.held:
            return 409, {"kind": "Status", "code": 409, "reason": "AlreadyExists"}
        body["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": "1", "namespace": "pipeline"}
        self.held[kind, name] = body
        if kind == "pods":
            body.setdefault("status", {"phase": "Pending"})
        return 201, body

    def _listed(self, kind: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        label, _, value = query.get("labelSelector", ["="])[0].partition("=")
        all_ = [one for (held, _), one in self.held.items() if held == kind]
        return [one for one in all_ if not label or one["metadata"].get("labels", {}).get(label) == value]

    def _gone(self, kind: str, name: str) -> dict[str, Any]:
        if name in self.stubborn:
            return self.held[kind, name]
        gone = self.held.pop((kind, name))
        owned = [
            key
            for key, one in self.held.items()
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in one["metadata"].get("ownerReferences", []))
        ]
        for key in owned:
            del self.held[key]
        return gone

    def kubeconfig(self, directory: Path) -> Path:
        """Write how it is reached, as `kubectl` reads it."""
        file = directory / "kubeconfig"
        cluster, context = {"server": self.url}, {"cluster": "fake", "user": "nobody"}
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": cluster}],
                    "contexts": [{"name": "fake", "context": context}],
                    "users": [{"name": "nobody", "user": {}}],
                }
            )
        )
        return file


@contextmanager
def fake_kubernetes() -> Iterator[FakeKubernetes]:
    """Serve a fake on a free port of this machine."""
    fake = FakeKubernetes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = fake.answer(self.command, self.path, json.loads(raw) if raw else {})
            text = isinstance(body, str)
            data = body.encode() if text else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _do  # noqa: N815 - as http.server calls them

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_port
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
