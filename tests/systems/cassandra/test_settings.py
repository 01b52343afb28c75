"""What the inventory may say about a cluster."""

from __future__ import annotations

from datetime import time, timedelta
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
    assert settings(window=window, timeout="23h").in_window(now) is open_


@pytest.mark.parametrize(
    ("window", "closed"),
    [(None, 0), ("22:00-06:00", 16 * 60), ("06:00-22:00", 8 * 60), ("00:00-23:59", 1), ("23:30-00:15", 23 * 60 + 15)],
)
def test_a_window_is_closed_from_its_end_to_its_next_beginning(window: str | None, closed: int) -> None:
    assert settings(window=window, timeout="1410m").closed == timedelta(minutes=closed)


@pytest.mark.parametrize("timeout", ["12h", "16h"])
def test_a_window_that_may_be_closed_for_longer_than_a_backup_has_is_refused_with_the_numbers(timeout: str) -> None:
    with pytest.raises(ValidationError) as told:
        settings(window="22:00-06:00", timeout=timeout)
    assert f"window (22:00-06:00) is closed for 16 h at a time, and timeout is {timeout[:-1]} h" in str(told.value)
    assert "set timeout, and snapshot_ttl (24 h), to more than 16 h" in str(told.value)
    assert settings(window="22:00-06:00", timeout="20h").closed == timedelta(hours=16)
    assert settings(window="18:00-06:30", timeout="12h").closed == timedelta(hours=11, minutes=30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth": "fast"},
        {"restore_bandwidth": "20"},
        {"window": "22-6"},
        {"window": "22:00-22:00", "timeout": "23h"},
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
