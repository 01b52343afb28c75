"""What the inventory may say about a cluster."""

from __future__ import annotations

from datetime import time
from typing import Any

import pytest
from pydantic import ValidationError

from include.engine.systems.cassandra.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"connection": "c", **values})


@pytest.mark.parametrize(
    ("window", "now", "open_"),
    [
        (None, time(12), True),
        ("22:00-06:00", time(23), True),
        ("22:00-06:00", time(5, 59), True),
        ("22:00-06:00", time(6), False),
        ("01:00-03:00", time(2), True),
        ("01:00-03:00", time(3), False),
    ],
)
def test_copying_keeps_to_its_window(window: str | None, now: time, open_: bool) -> None:
    assert settings(window=window).in_window(now) is open_


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth": "fast"},
        {"restore_bandwidth": "20"},
        {"window": "22-6"},
        {"snapshot_ttl": "1h"},
        {"transport": "telnet"},
        {"unknown": 1},
        {"multipart_above": "4MiB"},
        {"multipart_above": "6GiB"},
    ],
    ids=lambda wrong: "-".join(map(str, next(iter(wrong.items())))),
)
def test_mistakes_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_a_node_may_differ_from_the_others() -> None:
    known = settings(nodes={"10.0.0.1": {"host": "pod-0"}}, nodetool=["nodetool", "-p", "7199"])
    assert (known.node("10.0.0.1").host, known.node("10.0.0.2").host) == ("pod-0", "10.0.0.2")
    assert known.node("10.0.0.1").nodetool == ("nodetool", "-p", "7199")


def test_sizes_are_bytes() -> None:
    assert settings(bandwidth="20MiB").bandwidth_bytes == 20 << 20
    assert settings(bandwidth=None).bandwidth_bytes is None
    assert settings().bandwidth_bytes == 50 << 20  # readers come first unless somebody says otherwise
    assert settings(bandwidth="20MiB").restore_bandwidth_bytes is None  # in a restore everybody waits for it
    assert settings(restore_bandwidth="20MiB").restore_bandwidth_bytes == 20 << 20
