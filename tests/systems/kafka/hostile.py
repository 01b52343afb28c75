"""Records that break backups: every shape that Kafka allows and somebody forgot.  Generated, with a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Header = tuple[str, bytes | None]
NOW = 1_795_000_000_000  # milliseconds, in 2026
TIMES = (-1, 0, 1, 999, NOW, NOW - 3 * 86_400_000, 2_147_483_648_000, 4_102_444_800_000, 253_402_300_799_000)


@dataclass(frozen=True)
class Hostile:
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[Header, ...]


def records(seed: int, count: int, *, partitions: int = 3) -> list[Hostile]:
    """Give *count* records, each partition with all special ones among them."""
    chance = random.Random(seed)
    found = [_random(chance, partitions) for _ in range(count)]
    for partition in range(partitions):
        for special in _special(chance):
            found.insert(chance.randrange(len(found)), Hostile(partition, *special))
    return found


def _random(chance: random.Random, partitions: int) -> Hostile:
    return Hostile(
        partition=chance.randrange(partitions),
        key=chance.choice([None, b"", b"k%d" % chance.randrange(50), chance.randbytes(8)]),
        value=chance.choice([None, b"", chance.randbytes(chance.randrange(200)), b'{"a": 1}', "\u20ac\u0000".encode()]),
        timestamp=chance.choice([*TIMES, NOW + chance.randrange(10**9)]),
        headers=tuple(_headers(chance)),
    )


def _headers(chance: random.Random) -> Iterator[Header]:
    for _ in range(chance.choice([0, 0, 1, 2, 5])):
        yield (
            chance.choice(["", "h", "h", "trace", "\u00e4\u20ac\U0001f600"]),
            chance.choice([None, b"", b"1", chance.randbytes(5)]),
        )


def _special(chance: random.Random) -> Sequence[tuple[bytes | None, bytes | None, int, tuple[Header, ...]]]:
    return [
        (None, None, NOW, ()),
        (b"big", chance.randbytes(1 << 20), NOW, ()),  # with key and framing: larger than the usual limit
        (b"k" * 70_000, b"", 0, ()),
        (b"many", b"v", NOW, tuple((f"h{i % 7}", str(i).encode()) for i in range(10_000))),
        (b"same", b"v", NOW, (("d", b"1"), ("d", b"2"), ("d", b"1"), ("d", None), ("d", b""))),
        *((b"t", b"v", time, ()) for time in TIMES),
        (b"\xff\xfe", b"\x00" * 100, -1, (("", b""), ("", None))),
    ]
