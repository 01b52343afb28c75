"""Tells a node to take and clear snapshots: by Jolokia in milliseconds, or by nodetool in seconds when Jolokia is down."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, PermanentError, Unauthorized, Unreachable
from include.engine.full_disks import FULL
from include.engine.systems.cassandra.node_configuration import CLEAR_SNAPSHOT, STORAGE_SERVICE, TAKE_SNAPSHOT
from include.engine.systems.cassandra.settings import Settings
from include.engine.systems.cassandra.transport import NodeTransport, quote

# One connection a node is kept between requests, also between the steps of a run; by process, as a fork must not use its parent's.
_idle: dict[tuple[int, str, bytes], http.client.HTTPConnection] = {}
# Cassandra's words for a disk with too little space left, and the bare error of a node that tells no cause.
_OWN_WORDS = (r"Insufficient disk space", r"contains enough space to write", r"FSWriteError in \S+")
_FULL = re.compile("|".join([*map(re.escape, FULL), *_OWN_WORDS]))
_MAKE_ROOM = (
    "see with df whether that node's data disk is full, and free space there; start the node again if its disk_failure_policy has"
    " stopped it; then run it again"
)
_LONGEST = 400  # characters of what a node says
_SHORTEST_TTL = timedelta(minutes=1)  # Cassandra refuses less


class Control(Protocol):
    """Tells one node what to do."""

    @property
    def name(self) -> str:
        """``jolokia`` or ``nodetool``."""
        ...

    def wake(self) -> None:
        """Make the next request go out at once.

        :raises Unreachable: the node does not answer
        """
        ...

    def snapshot(self, tag: str, keyspaces: Sequence[str], ttl: timedelta) -> None:
        """Flush and hard-link all tables of *keyspaces* as *tag*; the node removes it by itself after *ttl*.

        :raises Unreachable: the node did not answer
        :raises PermanentError: it refused; a tag that exists already is refused
        """
        ...

    def clear(self, tag: str, keyspaces: Sequence[str]) -> None:
        """Remove the snapshot *tag* of *keyspaces*, at least one; what is not there is no error."""
        ...


class Jolokia:
    """A node's Jolokia agent, over TLS with our certificate.

    :param connection: ``jolokia_ca_file``, ``jolokia_cert_file`` and ``jolokia_key_file`` are extras; without them: plain HTTP
    """

    name = "jolokia"

    def __init__(self, host: str, port: int, connection: Connection, *, timeout: float = 120.0) -> None:
        self._where = f"{host}:{port}"
        self._host, self._port, self._timeout = host, port, timeout
        encoded = msgspec.json.encode(connection)
        self._context = _context_of(encoded)
        self._key = (os.getpid(), self._where, encoded)

    def answer(self) -> str:
        """Give the node's state, ``NORMAL`` when all is well.

        :raises Unreachable: nobody answers
        :raises Unauthorized: our certificate, or what we asked for, is not accepted
        """
        return str(self.ask(type="read", mbean=STORAGE_SERVICE, attribute="OperationMode"))

    def wake(self) -> None:
        """Replace the connection when it has gone while nobody used it (see :class:`Control`)."""
        self.answer()

    def snapshot(self, tag: str, keyspaces: Sequence[str], ttl: timedelta) -> None:
        """Take a snapshot (see :class:`Control`)."""
        options = {"ttl": _seconds(ttl), "skipFlush": "false"}
        arguments = [tag, options, list(keyspaces)]
        self._ask(
            {"type": "exec", "mbean": STORAGE_SERVICE, "operation": TAKE_SNAPSHOT, "arguments": arguments}, once=True
        )

    def clear(self, tag: str, keyspaces: Sequence[str]) -> None:
        """Remove a snapshot (see :class:`Control`)."""
        # Without names the node would walk through all that it has.
        self.ask(type="exec", mbean=STORAGE_SERVICE, operation=CLEAR_SNAPSHOT, arguments=[tag, list(keyspaces)])

    def ask(self, **request: object) -> Any:
        """Send one request and give its value.

        :raises Unreachable: nobody answers
        :raises Unauthorized: the certificate or the request was refused
        :raises PermanentError: the node failed to do it
        """
        return self._ask(request)

    def _ask(self, request: Mapping[str, object], *, once: bool = False) -> Any:
        body = self._post(json.dumps(request).encode(), once=once)
        return self._value(request, body if isinstance(body, dict) else {})

    def ask_all(self, requests: Sequence[dict[str, object]]) -> list[Any]:
        """Send many requests as one and give their values, in their order (see :meth:`ask`)."""
        answers = self._post(json.dumps(list(requests)).encode())
        if not isinstance(answers, list) or len(answers) != len(requests):
            raise PermanentError(f"Jolokia on {self._where} gave no answer to each request", hint="read the node's log")
        return [self._value(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def _value(self, request: Mapping[str, object], body: Mapping[str, Any]) -> Any:
        status = body.get("status")
        if status == 200:
            return body.get("value")
        said = _brief(str(body.get("error", "")))
        # A refusal by the policy comes as HTTP 200 with this status in the body.
        if status == 403:
            wanted = request.get("operation") or request.get("attribute") or request.get("mbean")
            raise Unauthorized(
                f"Jolokia on {self._where} does not allow {wanted}",
                hint="compare its policy file with the one in docs/cassandra.md",
            )
        hint = _MAKE_ROOM if _FULL.search(said) else "read the node's log"
        raise PermanentError(f"Jolokia on {self._where} failed: {said}", hint=hint)

    def _post(self, payload: bytes, *, once: bool = False) -> Any:
        try:
            status, raw = self._exchange(payload, once=once)
        except ssl.SSLError as error:
            if isinstance(
                error, ssl.SSLEOFError | ssl.SSLZeroReturnError
            ):  # the node went away: nobody refused anything
                raise self._silent(error) from error
            raise self._refused(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        if status in (401, 403):
            raise self._refused(f"HTTP {status}")
        try:
            return json.loads(raw)
        except ValueError as error:
            raise Unreachable(
                f"{self._where} answered HTTP {status}, and not as Jolokia does", hint="check jolokia_port"
            ) from error

    def _exchange(self, payload: bytes, *, once: bool) -> tuple[int, bytes]:
        """Send over the connection of an earlier request, which saves a TLS handshake; over a new one when that has gone.

        :param once: not over a new one: the node may have done it before the connection went, and refuse to do it twice
        """
        kept = _idle.pop(self._key, None)  # whoever takes it has it alone
        for link in [kept, self._connect()] if kept else [self._connect()]:
            try:
                link.request("POST", "/jolokia/", payload, {"Content-Type": "application/json"})
                _acknowledge(link)
                answer = link.getresponse()
                raw = answer.read()
            except (OSError, http.client.HTTPException) as error:
                link.close()
                # A node that is slow may yet do what it was told: only a connection that has gone is replaced.
                if once or link is not kept or isinstance(error, TimeoutError):
                    raise
            except BaseException:
                link.close()
                raise
            else:
                other = _idle.pop(self._key, None)
                _idle[self._key] = link
                if other is not None:
                    other.close()
                return answer.status, raw
        raise AssertionError("the new connection gives an answer or an error")

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _silent(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"Jolokia on {self._where} did not answer: {error}", hint="check its agent in the node's log"
        )

    def _refused(self, why: str) -> Unauthorized:
        return Unauthorized(
            f"Jolokia on {self._where} and we do not accept each other's certificate: {why}",
            hint="check jolokia_ca_file, jolokia_cert_file and jolokia_key_file of the connection",
        )


class Nodetool:
    """``nodetool`` on the node, run over the transport: slower, and always there."""

    name = "nodetool"

    def __init__(self, transport: NodeTransport, command: Sequence[str], *, timeout: float = 300.0) -> None:
        self._transport = transport
        self._command = " ".join(map(quote, command))
        self._timeout = timeout

    def wake(self) -> None:
        """Do nothing: each command comes by itself (see :class:`Control`)."""

    def snapshot(self, tag: str, keyspaces: Sequence[str], ttl: timedelta) -> None:
        """Take a snapshot (see :class:`Control`)."""
        self.run("snapshot", "-t", tag, "--ttl", _seconds(ttl), "--", *keyspaces)

    def clear(self, tag: str, keyspaces: Sequence[str]) -> None:
        """Remove a snapshot (see :class:`Control`)."""
        self.run("clearsnapshot", "-t", tag, "--", *keyspaces)

    def run(self, *arguments: str) -> str:
        """Run one command and give what it prints.

        :raises PermanentError: it failed; the hint shows what it said
        """
        try:
            return self._transport.run(f"{self._command} {' '.join(map(quote, arguments))}", timeout=self._timeout)
        except PermanentError as error:
            full = _FULL.search(error.hint)
            if full is None:
                raise
            raise PermanentError(
                f"{self._transport.name}: nodetool {arguments[0]} failed: {full[0]}", hint=_MAKE_ROOM
            ) from error


def control_of(
    settings: Settings, address: str, connection: Connection, transport: NodeTransport
) -> tuple[Control, str | None]:
    """Give the control of a node, and a note when it is not the one that the inventory asks for.

    :raises Unauthorized: Jolokia is there and refuses us: that is for a person to mend, not to step around
    """
    node = settings.node(address)
    assert node.nodetool is not None
    nodetool = Nodetool(transport, node.nodetool)
    if not settings.jolokia:
        return nodetool, None
    assert node.jolokia_port is not None
    jolokia = Jolokia(address, node.jolokia_port, connection)
    try:
        jolokia.answer()
    except Unreachable as error:
        return nodetool, f"{address}: {error.message}; nodetool was used instead"
    return jolokia, None


def _acknowledge(link: http.client.HTTPConnection) -> None:
    """Acknowledge what comes next at once: Java's HTTP server holds the body back until its head is, 40 ms later by default."""
    if link.sock is not None and (quick := getattr(socket, "TCP_QUICKACK", None)) is not None:  # Linux has it
        link.sock.setsockopt(socket.IPPROTO_TCP, quick, 1)


def _brief(text: str) -> str:
    """Shorten what a node says, and keep its end: the cause stands there, behind paths."""
    return text if len(text) <= _LONGEST else f"{text[:120]} … {text[-(_LONGEST - 120) :]}"


def _seconds(ttl: timedelta) -> str:
    return f"{math.ceil(max(ttl, _SHORTEST_TTL).total_seconds())}s"


@lru_cache(maxsize=8)
def _context_of(encoded: bytes) -> ssl.SSLContext | None:
    """Give the TLS context of a connection: the steps of a run share it, as the reading of certificates takes its time."""
    return _context(msgspec.json.decode(encoded, type=Connection))


def _context(connection: Connection) -> ssl.SSLContext | None:
    files = {name: connection.extra.get(f"jolokia_{name}_file") for name in ("ca", "cert", "key")}
    if not any(files.values()):
        return None
    if not all(files.values()):
        missing = ", ".join(f"jolokia_{name}_file" for name, value in files.items() if not value)
        raise Misconfigured(f"the connection lacks {missing}", hint="give all three, or none for plain HTTP")
    try:
        context = ssl.create_default_context(cafile=files["ca"])
        context.load_cert_chain(str(files["cert"]), files["key"])
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"Jolokia's certificates cannot be read: {error}", hint="check the paths in the extras of the connection"
        ) from error
    return context
