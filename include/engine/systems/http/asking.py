"""Asks one URL once, with an end to every wait, and looks at the certificate whether or not it is any good."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from include.engine.errors import Misconfigured, Unreachable

_MOST_BYTES = 1 << 20
_CHUNK = 1 << 16


class Answer(Struct, frozen=True, kw_only=True):
    """What came back.

    :param seconds: that the question took; to look at the certificate before it is none of the endpoint's business
    :param expires: when the certificate ends; None without TLS
    :param trusted: whether the certificate is valid for the host; None without TLS
    """

    status: int
    body: str
    seconds: float
    expires: datetime | None = None
    trusted: bool | None = None


def ask(url: str, *, timeout: float, login: tuple[str, str] | None = None, ca: Path | None = None) -> Answer:
    """GET *url*; a redirect is an answer.  The login is sent to nobody whose certificate is not trusted.

    :param timeout: seconds for all of it
    :raises Unreachable: no such name, nobody there, no answer in time, or no HTTP
    :raises Misconfigured: when the file with the authorities cannot be read
    """
    parts = urlsplit(url)
    trusting = _trusting(ca) if parts.scheme == "https" else None
    deadline = time.monotonic() + timeout
    try:
        expires, trusted = _certificate(parts, timeout, trusting) if trusting is not None else (None, None)
        headers = {"User-Agent": "mainstay", "Accept": "*/*", "Connection": "close"}
        if login and login[0] and trusted is not False:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        began = time.monotonic()
        connection = _connection(parts, max(deadline - time.monotonic(), 0.1))
        try:
            connection.request("GET", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", headers=headers)
            response = connection.getresponse()
            body = _read(response, connection, deadline)
            seconds = time.monotonic() - began
        finally:
            connection.close()
    except socket.gaierror as error:
        raise Unreachable(
            f"there is no host {parts.hostname}: {error.strerror}", hint="check the name, and DNS"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{_shown(parts)} did not answer: {str(error) or type(error).__name__}",
            hint="see whether it runs, and whether the way to it is open",
        ) from error
    return Answer(
        status=response.status,
        body=body.decode(errors="replace"),
        seconds=seconds,
        expires=expires,
        trusted=trusted,
    )


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=_blind())


def _blind() -> ssl.SSLContext:
    # Whether it is healthy is one question, whether its certificate is any good another: an expired one is told by its date.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(ca: Path | None) -> ssl.SSLContext:
    """Trust who signs for *ca*.  What is wrong with that file is not wrong with the endpoint."""
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:  # also one of TLS: a file that holds no certificate
        raise Misconfigured(
            f"the certificates in {ca} cannot be read: {error.strerror or error}",
            hint="see `ca` of the endpoint in the inventory (sweep.endpoints)",
        ) from error


def _certificate(parts: SplitResult, timeout: float, trusting: ssl.SSLContext) -> tuple[datetime, bool]:
    from cryptography import x509

    address = (parts.hostname or "", parts.port or 443)
    with (
        socket.create_connection(address, timeout) as raw,
        _blind().wrap_socket(raw, server_hostname=address[0]) as tls,
    ):
        der = tls.getpeercert(binary_form=True) or b""
    expires = x509.load_der_x509_certificate(der).not_valid_after_utc
    try:
        with socket.create_connection(address, timeout) as raw:
            trusting.wrap_socket(raw, server_hostname=address[0]).close()
    except ssl.SSLError:
        return expires, False
    return expires, True


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """Read at most a megabyte; one that sends a byte a second is not waited for."""
    parts: list[bytes] = []
    size = 0
    while size < _MOST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it sends, but does not come to an end")
        if connection.sock is not None:
            connection.sock.settimeout(left)
        part = response.read1(_CHUNK)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _shown(parts: SplitResult) -> str:
    """The URL without a login that somebody may have put into it."""
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
