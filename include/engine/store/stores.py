"""Opens the client of an object store from its URL and its connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured
from include.engine.store.failures import brief

if TYPE_CHECKING:
    from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

_MEMORY: dict[str, MemoryStore] = {}


def open_store(url: str, connection: Connection | None) -> ObjectStore:
    """Open the client for ``s3://``, ``gs://``, ``az://``, ``file://`` or ``memory://``.  Nothing is asked of the store yet.

    *connection* carries the credentials as Airflow's AWS connection does: login and password are the key pair,
    ``endpoint_url``, ``region_name`` and ``aws_session_token`` are extras; ``timeout_seconds`` (of one request, 120),
    ``max_retries`` (8) and ``retry_seconds`` (180) bound how long a dead store is waited for.  Without a connection the
    platform's own credentials are used.  One ``memory://`` URL is one store for the whole Python process.

    :raises Misconfigured: when the URL is none of these, or it and its connection do not fit together
    """
    openers: dict[str, Callable[[str, Connection | None], ObjectStore]] = {
        "s3": _open_s3,
        "gs": _open_plain,
        "az": _open_plain,
        "file": _open_local,
        "memory": _open_memory,
    }
    opener = openers.get(urlsplit(url).scheme)
    if opener is None:
        known = ", ".join(f"{scheme}://" for scheme in openers)
        raise Misconfigured(f"{url!r} is not the URL of an object store", hint=f"use one of {known}")
    try:
        return opener(url, connection)
    except (BaseError, OSError, ValueError, TypeError) as error:
        raise Misconfigured(
            f"{url} cannot be opened: {brief(error)}", hint="check the URL and its connection"
        ) from error


def _open_s3(url: str, connection: Connection | None) -> S3Store:
    from obstore.store import S3Store

    parts = urlsplit(url)
    extra = connection.extra if connection else {}
    endpoint = extra.get("endpoint_url", "")
    config: dict[str, Any] = {"region": extra.get("region_name", "us-east-1")}
    if connection and connection.login:
        config |= {"access_key_id": connection.login, "secret_access_key": connection.password}
    if token := extra.get("aws_session_token") or extra.get("session_token"):
        config["session_token"] = token
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if _guarded(endpoint):
        config["unsigned_payload"] = True
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=float(extra.get("timeout_seconds", "120"))),
        },
        retry_config={
            "max_retries": int(extra.get("max_retries", "8")),
            "retry_timeout": timedelta(seconds=float(extra.get("retry_seconds", "180"))),
            "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=15), "base": 2},
        },
        **config,
    )


def _guarded(endpoint: str) -> bool:
    """Whether the way to the store guards the bytes already: by TLS, or because they do not leave the machine.

    Then a request is signed without the SHA-256 of its body, which both sides would compute for nothing else.  A plain network
    has no other guard, so the body is signed there.
    """
    parts = urlsplit(endpoint)
    return parts.scheme != "http" or parts.hostname in ("127.0.0.1", "::1", "localhost")


def _open_plain(url: str, connection: Connection | None) -> ObjectStore:
    from obstore.store import from_url

    # The extras are obstore's own option names of GCS or Azure, which its overloads cannot see in a dictionary.
    options: Any = dict(connection.extra) if connection and connection.extra else None
    return from_url(url, config=options)


def _open_local(url: str, _connection: Connection | None) -> LocalStore:
    from obstore.store import LocalStore

    # A folder exists in a real store as long as it has objects: empty ones would be listed as targets and backups.
    return LocalStore(unquote(urlsplit(url).path), mkdir=True, automatic_cleanup=True)


def _open_memory(url: str, _connection: Connection | None) -> MemoryStore:
    from obstore.store import MemoryStore

    return _MEMORY.setdefault(url.rstrip("/"), MemoryStore())
