"""What a record of each shape is to whoever checks the job: the key of its row, or nothing; and a record that can be told.  Pure.

The job reads records with Spark (``include/jobs/shapes.py``).  This is a second reading of the same rules, which shares no code
with it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from include.engine.errors import Unsupported

Key = tuple[object, ...]

_UUID = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-([0-9a-fA-F])[0-9a-fA-F]{3}-([0-9a-fA-F])[0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
)
_MARK = "mainstay-drill"


class Marked(Struct, frozen=True, kw_only=True):
    """A record that nobody else sends, and the key of the row that it becomes."""

    key: bytes
    value: bytes
    row: Key


def key_columns(shape: str) -> Sequence[str]:
    """Name the columns that tell a row of *shape*."""
    return _known(shape)[0]


def key_of(shape: str, value: bytes | None) -> Key | None:
    """Give the key of the row that a record becomes; nothing for one that is broken."""
    try:
        found = json.loads(value or b"")
        return _known(shape)[1](found) if isinstance(found, dict) else None
    except (ValueError, UnicodeDecodeError):
        return None


def marked(shape: str, now: datetime, chance: int) -> Marked:
    """Make a record that can be told from all others.

    :param chance: 128 bits of it
    """
    return _known(shape)[2](now, chance)


def _user(found: Mapping[str, Any]) -> Key | None:
    number = _uuid(found.get("id"))
    return None if number is None else (number,)


def _event(found: Mapping[str, Any]) -> Key | None:
    made, user, at = _uuid(found.get("event_id"), version="1"), _uuid(found.get("user_id")), found.get("created_at")
    if made is None or user is None or not isinstance(at, str):
        return None
    moment = datetime.fromisoformat(at)  # not a time: a ValueError, like a document that is none
    return (f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d}", user, made)


def _marked_user(now: datetime, chance: int) -> Marked:
    number = uuid.UUID(int=chance, version=4)
    document = {"id": str(number), "username": _MARK, "registered_date": now.isoformat()}
    return Marked(key=str(number).encode(), value=json.dumps(document).encode(), row=(number,))


def _marked_event(now: datetime, chance: int) -> Marked:
    made, user = uuid.UUID(int=chance, version=1), uuid.UUID(int=chance >> 1, version=4)
    at = now.astimezone(UTC).isoformat(timespec="milliseconds")
    document = {"event_id": str(made), "user_id": str(user), "event_type": _MARK, "created_at": at}
    return Marked(key=str(user).encode(), value=json.dumps(document).encode(), row=(at[:10], user, made))


def _uuid(text: object, version: str = "") -> uuid.UUID | None:
    match = _UUID.fullmatch(text) if isinstance(text, str) else None
    if match is None or (version and (match[1] != version or match[2] not in "89abAB")):
        return None
    return uuid.UUID(match[0])


def _known(
    shape: str,
) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], Key | None], Callable[[datetime, int], Marked]]:
    if shape not in _SHAPES:
        raise Unsupported(f"nobody can check records of the shape {shape}", hint=f"known are {', '.join(_SHAPES)}")
    return _SHAPES[shape]


_SHAPES: Mapping[
    str, tuple[Sequence[str], Callable[[Mapping[str, Any]], Key | None], Callable[[datetime, int], Marked]]
] = {
    "users": (("id",), _user, _marked_user),
    "events": (("event_date", "user_id", "event_id"), _event, _marked_event),
}
