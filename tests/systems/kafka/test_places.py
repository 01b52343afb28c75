"""Where clusters that a restore starts live."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from types import SimpleNamespace

import pytest

from include.engine.model import Target
from include.engine.sandbox.home import Home
from include.engine.systems.kafka import places


def test_drills_that_go_on_side_by_side_have_sandboxes_of_their_own_however_long_their_targets_names_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []

    def sandbox(_: object, name: str) -> nullcontext[None]:
        names.append(name)
        return nullcontext()

    monkeypatch.setattr(Home, "sandbox", sandbox)
    monkeypatch.setattr(places, "KafkaCluster", lambda *_: SimpleNamespace(start=lambda: None))
    with ExitStack() as drills:
        for name in ("orders-" * 8 + "west", "orders-" * 8 + "east", "orders-" * 8 + "east"):
            drills.enter_context(places.sandbox_cluster(Target.parse(f"kafka/{name}")))
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 63  # what a sandbox may be called
