"""The command line on a pipeline on paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from include.engine.cli.app import app
from include.engine.cli.whence import Whence
from include.engine.verbs.pipeline import Pipeline
from tests.cli import paper as on_paper
from tests.cli.paper import Paper

Shell = Callable[..., Result]


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def pipeline(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = on_paper.pipeline(paper)
    monkeypatch.setattr(Whence, "pipeline", lambda self: made)
    monkeypatch.setattr(Whence, "log_in_ahead", lambda self, names: None)  # on paper there is no server
    return made


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Run ``./mainstay`` with some arguments."""
    monkeypatch.delenv("MAINSTAY_DEBUG", raising=False)

    def run(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=answer)

    return run
