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
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
    r"(Z|[+-](0[0-9]|1[0-7]):[0-5][0-9])?)?"
)
_MARK = "mainstay-drill"


class Marked(Struct, frozen=True, kw_only=True):
    """A record that nobody else sends, and the key of the row that it becomes."""

    key: bytes
    value: bytes
    row: Key


def compared_columns(shape: str) -> Sequence[str]:
    """Name the columns that can be compared with the record, besides the key."""
    return _known(shape).compared


def key_columns(shape: str) -> Sequence[str]:
    """Name the columns that tell a row of *shape*."""
    return _known(shape).columns


def key_of(shape: str, value: bytes | None) -> Key | None:
    """Give the key of the row that a record becomes; nothing for one that is broken."""
    found = _document(value)
    try:
        return None if found is None else _known(shape).key(found)
    except (ValueError, OverflowError):  # no time, or one beyond the calendar
        return None


def says(shape: str, value: bytes | None) -> dict[str, object]:
    """Give what a record says about columns of its row, as far as it can be compared without knowing Spark's conversions."""
    found = _document(value)
    if found is None:
        return {}
    columns = {name: found.get(name) for name in _known(shape).compared}
    return {
        name: told
        for name, told in columns.items()
        if isinstance(told, str) or (isinstance(told, dict) and all(isinstance(one, str) for one in told.values()))
    }


def _document(value: bytes | None) -> dict[str, Any] | None:
    """Read a record as Spark does: bytes that are no text become question marks, and what follows the document is not read."""
    try:
        found, _ = _JSON.raw_decode((value or b"").decode(errors="replace").lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


_JSON = json.JSONDecoder(parse_constant=_no_number)


def marked(shape: str, now: datetime, chance: int) -> Marked:
    """Make a record that can be told from all others.

    :param chance: 128 bits of it
    """
    return _known(shape).marked(now, chance)


def _user(found: Mapping[str, Any]) -> Key | None:
    number = _uuid(found.get("id"))
    return None if number is None else (number,)


def _event(found: Mapping[str, Any]) -> Key | None:
    made, user, at = _uuid(found.get("event_id"), version="1"), _uuid(found.get("user_id")), found.get("created_at")
    if made is None or user is None or not isinstance(at, str) or _TIME.fullmatch(at) is None:
        return None
    moment = datetime.fromisoformat(at)  # not a time: a ValueError, like a document that is none
    day = (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    return (day.isoformat(), user, made)


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


class _Shape(Struct, frozen=True):
    """How records of a shape are read here."""

    columns: Sequence[str]  # of the key
    key: Callable[[Mapping[str, Any]], Key | None]
    marked: Callable[[datetime, int], Marked]
    compared: Sequence[str]  # columns that say what the record's field of the same name says


_PERSON = ("first_name", "last_name", "gender", "address", "post_code", "email", "username", "registered_date")
_SHAPES: Mapping[str, _Shape] = {
    "users": _Shape(("id",), _user, _marked_user, (*_PERSON, "phone", "picture")),
    "events": _Shape(("event_date", "user_id", "event_id"), _event, _marked_event, ("event_type", "properties")),
}


def _known(shape: str) -> _Shape:
    if shape not in _SHAPES:
        raise Unsupported(f"nobody can check records of the shape {shape}", hint=f"known are {', '.join(_SHAPES)}")
    return _SHAPES[shape]
