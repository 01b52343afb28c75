"""Keeps secrets out of what is shown: the values that this process got from its environment are struck out.

Errors never carry a secret by design; this is the belt to those braces, for the text of clients that quote what they were given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_SECRET_NAMES = re.compile(r"(SECRET|PASSWORD|TOKEN|PRIVATE)", re.IGNORECASE)
_KEY = re.compile(r"AGE-SECRET-KEY-[0-9A-Z]+|MAINSTAY-SIGNING-KEY-[0-9A-Za-z+/=]+")
_SHORTEST = 6  # a shorter value would strike out ordinary words
STRUCK = "•••"


def redacted(text: str) -> str:
    """Give *text* without the secrets that the environment holds, and without any secret key of age or of evidence."""
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = text.replace(secret, STRUCK)
    return _KEY.sub(STRUCK, text)


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if name.startswith("AIRFLOW_CONN_") and value:
            yield from _of_connection(value, name)
        elif _SECRET_NAMES.search(name) and len(value) >= _SHORTEST:
            yield value


def _of_connection(value: str, name: str) -> Iterator[str]:
    from include.engine.connection_forms import parse
    from include.engine.errors import MainstayError

    yield value
    try:
        connection = parse(value, name)
    except MainstayError:
        return
    for secret in (connection.password, *(v for k, v in connection.extra.items() if _SECRET_NAMES.search(k))):
        if len(secret) >= _SHORTEST:
            yield secret
