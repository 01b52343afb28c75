"""The checklist before a deployment asks for a load test that has passed, and one that only looks whether it works is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.engine.model import Verdict
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
    bucket = Bucket.open(f"file://{tmp_path}")
    found = {"profile": profile, "verdict": "PASS", "finished": (NOW - timedelta(days=1)).isoformat()}
    bucket.create("loads/20261128T000000Z.json", json.dumps(found).encode())
    seen: Any = SimpleNamespace(
        inventory=SimpleNamespace(deployment=SimpleNamespace(load_test_within=timedelta(days=30))),
        pipeline=SimpleNamespace(catalog=SimpleNamespace(bucket=bucket)),
        now=NOW,
    )
    (item,) = load(seen).items
    assert (item.verdict, item.detail) == (verdict, detail)
