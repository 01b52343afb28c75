"""What the pages show of the pipeline's health: findings, the scaling table, the reports of checklists, metrics."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.engine.errors import Corrupt, NotFound, Unsupported
from include.engine.health import pages, prometheus
from include.engine.health.findings import Finding
from include.engine.health.history import Sweep
from include.engine.health.judging import FRESH
from include.engine.health.looks import Look
from include.engine.health.scaling import ScalingRow, scaling
from include.engine.model import ChecklistReport, Reading, Verdict
from include.engine.verbs import checklist as checklists_verb

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline
    from include.engine.verbs.sweep import Watch

_LATELY = timedelta(minutes=20)  # how old the newest reading of a metric may be, or how far ahead its clock
_TREND = timedelta(days=2)
_MOST_REPORTS = 60
_DIGEST = base64.b64encode(hashlib.sha256(pages.STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True, kw_only=True)
class FindingsView:
    """The page of findings.

    :param fresh: whether the last sweep was lately
    :param verdict: that of the last sweep, and UNVERIFIED when that is long ago, to come, or was never made
    """

    findings: Sequence[Finding]
    sweep: Sweep | None
    fresh: bool
    verdict: Verdict
    scaling: Sequence[ScalingRow]


def findings(watch: Watch, now: datetime) -> FindingsView:
    """Read the page of findings from the history.

    :raises Unreachable: when the history does not answer
    """
    history = watch.remembered()
    last = history.last_sweep()
    fresh = last is not None and abs(now - last.at) <= _LATELY
    metrics = [row.metric for row in watch.book.scaling.values()]
    looks = _looks(history.newest(now - _LATELY, until=now + FRESH), now)
    return FindingsView(
        findings=history.alive(),
        sweep=last,
        fresh=fresh,
        verdict=last.verdict if last is not None and fresh else Verdict.UNVERIFIED,
        scaling=scaling(watch.book, looks, history.points(metrics, now - _TREND), limits=watch.limits),
    )


def metrics(watch: Watch, now: datetime) -> tuple[str, str]:
    """Give readings and findings as Prometheus reads them, and the type of that text."""
    history = watch.remembered()
    last = history.last_sweep()
    swept = None if last is None else last.at
    readings = history.newest(now - _LATELY, until=now + FRESH)
    return prometheus.exposition(readings, history.alive(), swept=swept), prometheus.CONTENT_TYPE


def checklists(pipeline: Pipeline) -> tuple[list[ChecklistReport], list[str]]:
    """Read the newest reports of checklists; say which are damaged, each of which hides no other."""
    bucket = pipeline.catalog.bucket
    reports: list[ChecklistReport] = []
    problems: list[str] = []
    for kind, report in checklists_verb.listed(bucket)[:_MOST_REPORTS]:
        try:
            reports.append(checklists_verb.read(bucket, kind, report))
        except NotFound:
            continue  # it is being written: its JSON comes last
        except (Corrupt, Unsupported) as error:
            problems.append(error.message)
    return reports, problems


def checklist(pipeline: Pipeline, kind: str, report: str) -> str:
    """Give the page of a report.

    :raises NotFound: when there is none
    """
    return pages.html(checklists_verb.read(pipeline.catalog.bucket, kind, report))


def _looks(readings: Sequence[tuple[str, Reading]], now: datetime) -> list[Look]:
    """Say what is known as a sweep would have."""
    by_subject: dict[str, list[Reading]] = {}
    for subject, one in readings:
        by_subject.setdefault(subject, []).append(one)
    return [
        Look(
            subject=subject,
            probe="history",
            source="the history",
            metrics=(),
            at=now,
            seconds=0.0,
            readings=tuple(of_subject),
        )
        for subject, of_subject in by_subject.items()
    ]
