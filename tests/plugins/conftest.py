"""Airflow's settings, before anything here imports Airflow; and the operators on a pipeline on paper."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests import airflow_env  # isort: skip  # before the first import of Airflow

from include.engine.verbs.pipeline import Pipeline
from mainstay.hooks.mainstay import MainstayHook
from tests.cli import paper as on_paper
from tests.cli.paper import Paper

assert airflow_env.HOME.is_dir()
RUN_AFTER = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


class Events(dict[Any, Any]):
    """A task's outlet events, as Airflow makes them when they are asked for."""

    def __missing__(self, key: Any) -> Any:
        added: list[tuple[Any, dict[str, Any]]] = []
        self[key] = SimpleNamespace(extra={}, added=added, add=lambda asset, extra: added.append((asset, extra)))
        return self[key]


def context(**params: Any) -> Any:
    """What Airflow gives a task of the run at 02:00, as far as the operators look."""
    return {
        "dag_run": SimpleNamespace(run_after=RUN_AFTER, run_type="manual"),
        "params": {"targets": [], "full": False, **params},
        "outlet_events": Events(),
    }


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def pipeline(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """What every operator works on: :class:`Paper` is a fake server, the catalog is real."""
    made = on_paper.pipeline(paper)
    monkeypatch.setattr(MainstayHook, "pipeline", lambda self: made)
    return made
