"""Which of the declared mirrors a run takes: each, unless a person chose one."""

from __future__ import annotations

import pytest

from tests.plugins.conftest import context  # isort: skip  # sets Airflow up

from airflow.sdk.exceptions import AirflowSkipException

from include.engine.mirroring import MirrorPlan
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.mirror import PlanMirrorOperator


class PaperMirror:
    """A mirror in which there is nothing to change."""

    def __init__(self, name: str) -> None:
        self.name = name

    def stopped(self) -> str:
        return ""

    def plan(self) -> MirrorPlan:
        return MirrorPlan(mirror=self.name, changes=(), topics=("users",))


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[PlanMirrorOperator]:
    """The first tasks of two mirrors."""
    monkeypatch.setattr(MainstayHook, "mirror", lambda _, name: PaperMirror(name))
    return [PlanMirrorOperator(task_id="plan", mirror=f"kafka/main/{name}") for name in ("a", "b")]


def test_a_run_for_which_nobody_chose_a_mirror_takes_each(plans: list[PlanMirrorOperator]) -> None:
    assert [plan.execute(context(mirror=None, confirm=None))["topics"] for plan in plans] == [1, 1]


def test_a_run_for_one_mirror_leaves_the_others_alone(plans: list[PlanMirrorOperator]) -> None:
    chosen, other = plans
    assert chosen.execute(context(mirror="kafka/main/a", confirm=None))["topics"] == 1
    with pytest.raises(AirflowSkipException, match="only the mirror kafka/main/a was asked for"):
        other.execute(context(mirror="kafka/main/a", confirm=None))
