"""Records of users and events, made from a seed or taken from the Random User API.  Pure: the same number gives the same record."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_FIRST = (
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Edsger",
    "Frances",
    "Grace",
    "John",
    "Katherine",
    "Leslie",
    "Radia",
    "Tim",
)
_LAST = ("Allen", "Berners", "Dijkstra", "Hopper", "Johnson", "Lamport", "Liskov", "Lovelace", "Perlman", "Shannon")
_STREETS = ("Church Lane", "High Street", "Mill Road", "Station Road", "The Green", "Victoria Street")
_CITIES = ("Bath", "Cardiff", "Derry", "Leeds", "Stirling", "York")
_KINDS = ("click", "view", "purchase", "login", "logout")
_DEVICES = ("desktop", "phone", "tablet")
_ACTIVE = 100_000  # users who make events: a few a day each, so that their partitions stay small
_BEGAN = datetime(2015, 1, 1, tzinfo=UTC)
_GREGORIAN = 0x01B21DD213814000  # 100 ns between the calendar's beginning, which a time UUID counts from, and 1970

Record = dict[str, Any]


def user(seed: int, number: int) -> Record:
    """Make a user: the shape that ``include/jobs/shapes.py`` reads."""
    dice = random.Random(f"user/{seed}/{number}")  # noqa: S311 - records, not secrets
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    name = f"{first}{last}{number}".lower()
    registered = _BEGAN + timedelta(seconds=dice.randrange(10 * 365 * 86_400))
    return {
        "id": str(user_id(seed, number)),
        "first_name": first,
        "last_name": last,
        "gender": dice.choice(("female", "male")),
        "address": f"{dice.randrange(1, 200)} {dice.choice(_STREETS)}, {dice.choice(_CITIES)}, United Kingdom",
        "post_code": f"{dice.choice('BCDLSY')}{dice.randrange(1, 30)} {dice.randrange(1, 10)}AB",
        "email": f"{name}@example.com",
        "username": name,
        "registered_date": registered.isoformat(),
        "phone": f"0{dice.randrange(10**9, 10**10)}",
        "picture": f"https://example.com/portraits/{dice.randrange(100)}.jpg",
    }


def user_id(seed: int, number: int) -> uuid.UUID:
    """Give the id of a user."""
    return uuid.UUID(int=random.Random(f"id/{seed}/{number}").getrandbits(128), version=4)  # noqa: S311


def event(seed: int, number: int, at: datetime) -> Record:
    """Make an event that happened *at*, of one of the first :data:`_ACTIVE` users of the same seed."""
    dice = random.Random(f"event/{seed}/{number}")  # noqa: S311
    return {
        "event_id": str(time_uuid(at, dice.getrandbits(62))),
        "user_id": str(user_id(seed, dice.randrange(_ACTIVE))),
        "event_type": dice.choice(_KINDS),
        "created_at": at.isoformat(),
        "properties": {"page": f"/p/{dice.randrange(500)}", "number": str(number)},
        "device": {"kind": dice.choice(_DEVICES), "version": dice.randrange(1, 20)},
    }


def time_uuid(at: datetime, rest: int) -> uuid.UUID:
    """Make a version 1 UUID of a time and of 62 bits that tell it from others of the same time."""
    ticks = int(at.timestamp() * 1_000_000) * 10 + _GREGORIAN
    low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
    top = low << 96 | middle << 80 | 1 << 76 | high << 64
    return uuid.UUID(int=top | 0b10 << 62 | rest & (1 << 62) - 1)


def from_random_user(found: Mapping[str, Any]) -> Record:
    """Turn one result of the Random User API into a user.  Its id is the API's, so that the same answer is the same user.

    :raises KeyError: when the API has another shape
    """
    place = found["location"]
    street = place["street"]
    return {
        "id": str(uuid.UUID(found["login"]["uuid"])),
        "first_name": found["name"]["first"],
        "last_name": found["name"]["last"],
        "gender": found["gender"],
        "address": f"{street['number']} {street['name']}, {place['city']}, {place['state']}, {place['country']}",
        "post_code": str(place["postcode"]),
        "email": found["email"],
        "username": found["login"]["username"],
        "registered_date": found["registered"]["date"],
        "phone": found["phone"],
        "picture": found["picture"]["medium"],
    }
