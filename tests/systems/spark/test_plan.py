"""The plan of a restore of a checkpoint: it changes nothing."""

from __future__ import annotations

from pathlib import Path

from include.engine.model import DestinationKind
from include.engine.verbs import restore
from tests.sabotage.test_sets import TARGET, Pond


def test_a_plan_into_a_directory_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    pond = Pond(tmp_path)
    pond.take(2)
    into = tmp_path / "restored-set" / "spark-pond"
    plan = restore.plan(pond.pipeline, TARGET, destination=DestinationKind.DIRECTORY, path=str(into))
    assert plan.would_overwrite == ()
    assert not into.parent.exists()  # in a set's directory, servers of other accounts have to find their way
