"""What Prometheus is given: one sample that it does not take would cost it all of them."""

from __future__ import annotations

import re

from include.engine.health.prometheus import exposition
from include.engine.model import Reading
from tests.health.making import NOW

SAMPLE = re.compile(r'[a-zA-Z_:][\w:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? -?[\d.e+-]+')


def test_labels_of_a_declared_probe_are_names_that_prometheus_takes_and_hide_none_of_ours() -> None:
    labels = {"5xx": "a", "subject": "theirs", "metric": "theirs", "a-b": "1", "a.b": "2", "": "x", "why": 'a "b"\n\\'}
    text = exposition([("shop/main", Reading(metric="shop.orders", value=3, unit="1", at=NOW, labels=labels))], [])
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == 2
    for sample in samples:
        assert SAMPLE.fullmatch(sample), sample
        names = re.findall(r'(\w+)="', sample)
        assert len(names) == len(set(names)), sample
        assert ',subject="shop/main"' in sample
    assert 'label_subject="theirs"' in samples[0]


def test_it_says_when_everything_was_last_looked_at() -> None:
    assert f"mainstay_last_sweep_timestamp_seconds {NOW.timestamp():.0f}\n" in exposition([], [], swept=NOW)
    assert not [line for line in exposition([], []).splitlines() if line.startswith("mainstay_last_sweep")]
