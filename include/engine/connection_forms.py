"""Reads a connection from the two forms that Airflow knows in the environment, a URI or JSON, and writes the second."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote, urlsplit

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured

_TYPES = {"postgres": "postgres", "kafka": "kafka", "cassandra": "cassandra"}


def parse(value: str, name: str) -> Connection:
    """Read a connection.  *name* is for the error; the value, which holds a secret, is never quoted.

    :raises Misconfigured: when it is neither form
    """
    try:
        return _from_json(value) if value.lstrip().startswith("{") else _from_uri(value)
    except (ValueError, TypeError, AttributeError):
        # Without `from`: the cause would quote the value.
        raise Misconfigured(
            f"{name} is neither a connection URI nor Airflow's JSON form",
            hint="percent-encode special characters in a URI",
        ) from None


def as_variable(name: str, connection: Connection) -> str:
    """Write a connection as Airflow reads it from the environment."""
    return json.dumps(
        {
            "conn_type": _TYPES.get(name.partition("_")[0], "aws"),
            "host": connection.host,
            "port": connection.port,
            "login": connection.login,
            "password": connection.password,
            "schema": connection.schema,
            "extra": connection.extra,
        }
    )


def _from_json(value: str) -> Connection:
    document = json.loads(value)
    extra = document.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    return Connection(
        host=document.get("host") or "",
        port=int(document["port"]) if document.get("port") else None,
        login=document.get("login") or "",
        password=document.get("password") or "",
        schema=document.get("schema") or "",
        extra={str(key): str(item) for key, item in extra.items()},
    )


def _from_uri(value: str) -> Connection:
    parts = urlsplit(value)
    if not parts.scheme:
        raise ValueError("no scheme")
    extra = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "__extra__" in extra:
        extra = {str(key): str(item) for key, item in json.loads(extra["__extra__"]).items()}
    return Connection(
        host=unquote(parts.hostname or ""),
        port=parts.port,
        login=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        schema=unquote(parts.path.lstrip("/")),
        extra=extra,
    )
