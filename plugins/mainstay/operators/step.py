"""What all of Mainstay's operators share: the pipeline, the wish to stop, the progress in the log, the name of the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.engine.contracts import Stop
from include.engine.model import backup_id
from mainstay.hooks.mainstay import MainstayHook
from mainstay.hooks.progress import LogProgress
from mainstay.links import ReportLink, RunbookLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.engine.verbs.pipeline import Pipeline

Summary = dict[str, Any]  # small, JSON, no secret: ids, bytes, seconds, verdicts


def clock() -> datetime:
    """Give the time, aware and in UTC."""
    return datetime.now(UTC)


def run_name(context: Context) -> str:
    """Name what a run makes after ``run_after``: the one time that every run has, and that a retry sees again."""
    run_after: datetime = context["dag_run"].run_after
    return backup_id(run_after)


class Step(BaseOperator):
    """One step of a verb.  It imports its verb when it runs: DAG files import the operators, and must not load the clients.

    A person who kills the task, and a timeout, come to the engine as a wish to stop: it closes what it has open, and leaves
    what a retry can use.

    What the run is asked for, a step reads from the run's params: they are checked against the form and keep their types,
    which templates do not.

    :param runbook: what a person does when it fails, a page of ``include/runbooks/``
    """

    operator_extra_links = (ReportLink(), RunbookLink())
    ui_color = "#eef2ff"
    ui_fgcolor = "#1e1b4b"

    report = ""  # the page about what this try did; set while it runs

    def __init__(self, *, runbook: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runbook = runbook

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, with Airflow's connections."""
        return MainstayHook().pipeline()

    @cached_property
    def stop(self) -> Stop:
        """What :meth:`on_kill` expresses."""
        return Stop()

    def on_kill(self) -> None:
        """Ask the engine to stop."""
        # In a thread: Airflow calls this from a signal handler, which interrupts the very work that may hold Stop's lock.
        threading.Thread(
            target=self.stop.stop, args=("the task was killed or ran into its timeout",), daemon=True
        ).start()

    @contextmanager
    def progress(self) -> Iterator[LogProgress]:
        """Progress in the task's log; the last stage is told as finished when the context ends without an error."""
        progress = LogProgress(self.log)
        yield progress
        progress.close()
