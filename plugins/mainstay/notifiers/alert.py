"""One message for everything that goes wrong: what, since when, how bad, what to do, where to look.

It is a line in the log, at level ERROR and with a fixed form, so that whatever watches the logs can page on it::

    ALERT severity=page what="backup.copy failed" since="2026-11-23 02:00:00Z" why="…" runbook=backup-failed link=http://…

Mail and chat are not sent from here: name a notifier of an Airflow provider (SMTP, Slack, …) beside this one in a DAG's
callbacks for that.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from include.engine.cli import figures
from mainstay.links import runbook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

_SEVERITY = {"tier:1": "page", "tier:2": "today", "tier:3": "this-week"}


class AlertNotifier(BaseNotifier):
    """Log one line that a person can act on.

    As ``on_failure_callback`` of a task, or with ``AsyncCallback`` as the callback of a deadline.

    :param runbook: what a person does, a page of ``include/runbooks/``
    :param what: what is wrong; a failed task is named when not given
    """

    template_fields = ("what",)

    def __init__(self, *, runbook: str, what: str = "", context: Context | None = None) -> None:
        super().__init__(context)
        self.runbook = runbook
        self.what = what

    def notify(self, context: Context) -> None:
        """Log the line, in the worker or the DAG processor."""
        self.log.error("%s", line(context, what=self.what, slug=self.runbook))

    async def async_notify(self, context: Context) -> None:
        """Log the line, in the triggerer."""
        self.notify(context)


def line(context: Any, *, what: str, slug: str) -> str:
    """Write the line.  What the context lacks is left out: a deadline's has less than a task's."""
    ti, run, dag = (context.get(name) for name in ("ti", "dag_run", "dag"))
    exception = context.get("exception")
    task = f"{_of(ti, 'dag_id')}.{_of(ti, 'task_id')}" if ti is not None else str(_of(run, "dag_id"))
    fields = {
        "severity": _severity(_of(dag, "tags") or ()),
        "what": what or f"{task} failed",
        "since": figures.moment(_moment(_of(run, "run_after"))),
        "run": _of(run, "run_id") or _of(run, "dag_run_id"),
        "why": " ".join(str(exception).split()) if exception else None,
        "runbook": slug,
        "link": _of(ti, "log_url") or runbook(slug),
    }
    return "ALERT " + " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items() if value)


def _of(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else value


def _severity(tags: Iterable[str]) -> str:
    return next((told for tag, told in _SEVERITY.items() if tag in tags), "page")


def _quoted(text: str) -> str:
    return text if text and not set(text) & set(' "=\\') else json.dumps(text, ensure_ascii=False)
