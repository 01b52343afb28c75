"""An answer that several probes of a sweep need is asked for once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Unreachable
from include.engine.model import Manifest, Target
from include.engine.probing import Once
from include.engine.verbs import backup, proofs
from tests.cli import paper
from tests.estate import Quiet, clock


def test_probes_that_come_together_ask_once_and_all_hear_it() -> None:
    together, asked = threading.Barrier(4), list[int]()

    def answer() -> int:
        asked.append(1)
        return 7

    once = Once(answer)

    def ask() -> int:
        together.wait()
        return once()

    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(ask) for _ in range(4)]] == [7] * 4
    assert asked == [1]


def test_a_system_that_is_away_is_not_asked_by_each_of_them() -> None:
    asked: list[int] = []

    def away() -> int:
        asked.append(1)
        raise Unreachable("it is away", hint="wait")

    once = Once(away)
    for _ in range(2):
        with pytest.raises(Unreachable, match="it is away"):
            once()
    assert asked == [1]


def test_the_manifests_of_a_target_are_read_once_for_all_its_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = paper.pipeline(paper.Paper())
    set_id = "20261123T020000Z"
    backup.freeze(pipeline, set_id, pipeline.targets, clock=clock)
    backup.copy(pipeline, set_id, paper.TARGET, progress=Quiet(), stop=Stop(), clock=clock)
    read: list[str] = []
    find = pipeline.catalog.find

    def found(target: Target, name: str) -> Manifest | None:
        read.append(name)
        return find(target, name)

    monkeypatch.setattr(pipeline.catalog, "find", found)
    monkeypatch.setattr(pipeline.lookup, "archive", lambda _target: Archived())
    probes = {one.name: one for one in proofs.of_target(paper.TARGET, lambda: pipeline)}
    told = [one for name in ("backups", "log archive") for one in probes[name].read(clock, timeout=1)]
    assert {one.metric for one in told} >= {"backups.count", "backups.log.gaps"}
    assert read == [set_id]


class Archived:
    """A log archive of which nothing is wrong."""

    def audit(self, kept: object, clock: object) -> tuple[()]:
        return ()
