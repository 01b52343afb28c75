"""Values to write: made before the load begins, the same in every run."""

from __future__ import annotations

import json
from random import Random

_WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
]


def payloads(size: int, *, shape: str, count: int = 512, seed: int = 1) -> list[bytes]:
    """Give *count* values of exactly *size* bytes.

    :param shape: ``json``, which compresses as events do, or ``random``, which does not compress at all
    """
    random = Random(seed)  # noqa: S311 - no secret
    if shape == "random":
        return [random.randbytes(size) for _ in range(count)]
    made = []
    for number in range(count):
        event = {"id": random.getrandbits(53), "n": number, "name": random.choice(_WORDS), "text": ""}
        text = " ".join(random.choices(_WORDS, k=size // 4))
        event["text"] = text[: max(0, size - len(json.dumps(event)))]
        made.append(json.dumps(event).encode().ljust(size)[:size])
    return made
