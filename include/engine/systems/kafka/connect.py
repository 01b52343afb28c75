"""Asks Kafka Connect over its REST interface.  Waits out rebalances, and believes tasks, not connectors."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import (
    Contended,
    MainstayError,
    Misconfigured,
    NotFound,
    PermanentError,
    Unauthorized,
    Unreachable,
)

_PATIENCE = 60.0  # seconds: a rebalance answers 409 until it is over


class Status(Struct, frozen=True, kw_only=True):
    """The state of a connector and of each of its tasks."""

    connector: str
    tasks: tuple[str, ...]
    traces: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it runs and so do all of its tasks, of which there is one at least."""
        return self.connector == "RUNNING" and bool(self.tasks) and all(task == "RUNNING" for task in self.tasks)

    @property
    def failed(self) -> bool:
        """Whether it or a task has failed; a connector says RUNNING while its only task is dead."""
        return "FAILED" in (self.connector, *self.tasks)


class Connect:
    """A Connect cluster.

    :param patience: seconds to go on asking while it rebalances or does not answer
    """

    def __init__(self, connection: Connection, *, patience: float = _PATIENCE) -> None:
        scheme = connection.schema or connection.extra.get("scheme") or "http"
        self.url = f"{scheme}://{connection.host}:{connection.port or 8083}"
        self._patience = patience
        self._timeout = min(30.0, max(5.0, patience))  # of one request
        self._authorization = ""
        if connection.login:
            pair = f"{connection.login}:{connection.password}".encode()
            self._authorization = f"Basic {base64.b64encode(pair).decode()}"

    def names(self) -> list[str]:
        """Name the connectors."""
        return sorted(self._ask("GET", "/connectors"))

    def config(self, name: str) -> dict[str, str] | None:
        """Give a connector's configuration, or nothing when there is none of that name."""
        try:
            found: dict[str, str] = self._ask("GET", f"/connectors/{quote(name)}/config")
        except NotFound:
            return None
        return found

    def validate(self, name: str, config: Mapping[str, str]) -> list[str]:
        """Give what Connect finds wrong with a configuration, without applying it."""
        kind = config["connector.class"].rpartition(".")[2]
        answer = self._ask("PUT", f"/connector-plugins/{quote(kind)}/config/validate", {**config, "name": name})
        return [
            f"{entry['value']['name']}: {error}" for entry in answer["configs"] for error in entry["value"]["errors"]
        ]

    def put(self, name: str, config: Mapping[str, str]) -> None:
        """Create a connector or change it; what is so already stays untouched."""
        self._ask("PUT", f"/connectors/{quote(name)}/config", dict(config))

    def delete(self, name: str) -> None:
        """Remove a connector; one that is not there is no error."""
        try:
            self._ask("DELETE", f"/connectors/{quote(name)}")
        except NotFound:
            return

    def status(self, name: str) -> Status:
        """Give the state of a connector and its tasks.

        :raises NotFound: when there is none
        """
        found = self._ask("GET", f"/connectors/{quote(name)}/status")
        tasks = found["tasks"]
        parts = [found["connector"], *tasks]
        return Status(
            connector=found["connector"]["state"],
            tasks=tuple(task["state"] for task in tasks),
            traces=tuple(_last_cause(part["trace"]) for part in parts if part.get("trace")),
        )

    def offsets(self, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Give how far a source connector is: pairs of source partition and offset."""
        found = self._ask("GET", f"/connectors/{quote(name)}/offsets")
        return [(entry["partition"], entry["offset"]) for entry in found["offsets"] if entry["offset"]]

    def stop(self, name: str) -> None:
        """Stop a connector: its tasks end and its offsets stay."""
        self._ask("PUT", f"/connectors/{quote(name)}/stop")

    def resume(self, name: str) -> None:
        """Start a stopped connector again."""
        self._ask("PUT", f"/connectors/{quote(name)}/resume")

    def restart_failed(self, name: str) -> None:
        """Restart a connector's failed parts."""
        self._ask("POST", f"/connectors/{quote(name)}/restart?includeTasks=true&onlyFailed=true")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        deadline = time.monotonic() + self._patience
        pause = 0.1
        while True:
            try:
                return self._ask_once(method, path, body)
            except (Contended, Unreachable):
                if time.monotonic() >= deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _ask_once(self, method: str, path: str, body: object) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310 - the scheme is the connection's
                raw = answer.read()
        except urllib.error.HTTPError as error:
            raise _refusal(self.url, path, error.code, error.read()) from None  # the body may quote a password
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"Kafka Connect did not answer at {self.url}: {error}",
                hint="check that a worker runs; the run can be repeated",
            ) from error
        return json.loads(raw) if raw else None


def _refusal(url: str, path: str, code: int, body: bytes) -> MainstayError:
    try:
        said = str(json.loads(body).get("message", ""))[:300]
    except (ValueError, AttributeError):
        said = ""
    what = f"{url}{path.partition('?')[0]}"
    if code == 404:
        return NotFound(f"Kafka Connect has no {what}: {said}", hint="`GET /connectors` lists what it has")
    if code == 409:
        return Contended(f"Kafka Connect is rebalancing: {said}", hint="try again in a minute")
    if code in (401, 403):
        return Unauthorized(f"Kafka Connect refused {what}", hint="check login and password of its connection")
    if code in (400, 422):
        return Misconfigured(f"Kafka Connect refused a configuration: {said}", hint="mend the mirror in the inventory")
    if code >= 500:
        return Unreachable(
            f"Kafka Connect failed on {what} ({code}): {said}", hint="see the worker's log; it can be repeated"
        )
    return PermanentError(f"Kafka Connect answered {code} to {what}: {said}", hint="see the worker's log")


def _last_cause(trace: str) -> str:
    causes = [line for line in trace.splitlines() if line.startswith("Caused by")]
    return (causes[-1] if causes else trace.splitlines()[0]).strip()[:300]
