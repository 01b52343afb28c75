"""The checklist before a deployment asks for a load test that has passed, and one that only looks whether it works is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.engine.model import Item, Verdict
from include.engine.store.bucket import Bucket
from include.engine.verbs.predeployment import load

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("profile", "verdict", "detail"),
    [
        ("kafka-steady", Verdict.PASS, "passed on 2026-11-28"),
        ("kafka-brief", Verdict.UNVERIFIED, "none was ever recorded; 1 brief load(s) only saw whether all of it works"),
    ],
    ids=["steady", "brief"],
)
def test_a_brief_look_is_no_load_test(profile: str, verdict: Verdict, detail: str, tmp_path: Path) -> None:
    item = judged(tmp_path, (1, profile, "PASS"))
    assert (item.verdict, item.detail) == (verdict, detail)


def judged(folder: Path, *ended: tuple[int, str, str]) -> Item:
    """The line of load tests that ended so many days ago."""
    bucket = Bucket.open(f"file://{folder}")
    for number, (days, profile, verdict) in enumerate(ended):
        found = {"profile": profile, "verdict": verdict, "finished": (NOW - timedelta(days=days)).isoformat()}
        bucket.create(f"loads/{number}.json", json.dumps(found).encode())
    seen: Any = SimpleNamespace(
        inventory=SimpleNamespace(deployment=SimpleNamespace(load_test_within=timedelta(days=30))),
        pipeline=SimpleNamespace(catalog=SimpleNamespace(bucket=bucket)),
        now=NOW,
    )
    (item,) = load(seen).items
    return item


@pytest.mark.parametrize("verdict", ["FAIL", "UNVERIFIED"])
def test_the_newest_of_every_profile_counts(verdict: str, tmp_path: Path) -> None:
    item = judged(tmp_path, (9, "kafka-steady", "PASS"), (5, "postgres-steady", "PASS"), (2, "kafka-steady", verdict))
    assert (item.verdict, item.evidence) == (Verdict.FAIL, (f"kafka-steady: {verdict} on 2026-11-27",))


def test_a_load_that_passes_again_and_one_that_failed_long_ago_are_no_failures(tmp_path: Path) -> None:
    item = judged(tmp_path, (3, "kafka-steady", "FAIL"), (2, "kafka-steady", "PASS"), (40, "old-steady", "FAIL"))
    assert (item.verdict, item.detail) == (Verdict.PASS, "passed on 2026-11-27")
