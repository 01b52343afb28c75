"""Links from a task to the page about what it did: the set, the drill, the runbook."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol as RuntimeTaskInstance

_RUNBOOK = re.compile(r"`include/runbooks/([a-z-]+)\.md`")
PREFIX = "mainstay"  # where the pages are mounted


def page(path: str = "") -> str:
    """Give the URL of one of Mainstay's pages in Airflow."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/{PREFIX}/{quote(path)}"


def runbook(slug: str) -> str:
    """Give the URL of a runbook."""
    return page(f"runbooks/{slug}")


def documented(text: str) -> str:
    """Turn every `` `include/runbooks/<slug>.md` `` of a DAG's documentation into a link to its page."""
    return _RUNBOOK.sub(lambda found: f"[{found[1]}]({runbook(found[1])})", text)


class ReportLink(BaseOperatorLink):
    """The page about what the task did: a set or a drill.  Without one, the overview."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstance) -> str:  # type: ignore[override]
        """Give the page that the operator has named while it ran; Airflow asks in the worker, when the task has ended."""
        return page(getattr(operator, "report", ""))


class RunbookLink(BaseOperatorLink):
    """What a person does when the task has failed."""

    name = "Runbook"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstance) -> str:  # type: ignore[override]
        """Give the operator's runbook."""
        return runbook(getattr(operator, "runbook", ""))
