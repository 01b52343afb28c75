"""The checklists of the day: a fresh look, judged line by line, with evidence.  What could not be proved is UNVERIFIED.

A report goes to the bucket three times: as JSON, which counts, as Markdown, and as a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from include.engine.contracts import Clock
from include.engine.errors import NotFound
from include.engine.health import pages
from include.engine.health.findings import Finding, State
from include.engine.health.history import History
from include.engine.health.looks import Look, Trouble
from include.engine.inventory import Inventory
from include.engine.model import Chapter, ChecklistReport, Item, SignOff, Verdict, decode, encode, worst
from include.engine.store.bucket import Bucket
from include.engine.store.clocks import is_ahead
from include.engine.verbs import sweep
from include.engine.verbs.pipeline import Pipeline
from include.engine.verbs.sweep import SweepReport, Watch

KINDS = ("morning", "evening", "predeployment")


@dataclass(frozen=True)
class Inspection:
    """What a checklist is made of.

    :param project: where documents and runbooks lie
    """

    inventory: Inventory
    pipeline: Pipeline
    watch: Watch
    report: SweepReport
    history: History
    project: Path
    now: datetime

    def looks(self, system: str) -> list[Look]:
        """Give what was seen of one system."""
        return [look for look in self.report.looks if look.system == system]

    def findings(self, *metrics: str) -> list[Finding]:
        """Give the open findings by rules about metrics that begin so."""
        rules = self.watch.book.rules
        return [
            one
            for one in self.report.findings
            if one.state is State.OPEN and one.rule in rules and rules[one.rule].metric.startswith(metrics)
        ]

    def read(self, *metrics: str) -> bool:
        """Say whether every metric that begins so could be read, and there was one: what failed may be what matters."""
        given = any(one.metric.startswith(metrics) for look in self.report.looks for one in look.readings)
        return given and not self.missed(*metrics)

    def missed(self, *metrics: str) -> bool:
        """Say whether a metric that begins so should have been told, and was not."""
        return any(_misses(look, metrics) for look in self.report.looks)


def _misses(look: Look, metrics: tuple[str, ...]) -> bool:
    """Whether a look should have told something of such metrics, and did not."""
    if look.trouble is not None:
        return look.owes(*metrics)
    read = {one.metric for one in look.readings}
    return any(one.startswith(metrics) for one in {*look.metrics} - read)


Chapters = Callable[[Inspection], Sequence[Chapter]]


def inspect(
    kind: str, inventory: Inventory, pipeline: Pipeline, watch: Watch, *, name: str, project: Path, clock: Clock
) -> ChecklistReport:
    """Look at everything now, go through a checklist, and give its report.

    :param name: of the report, that of the run
    :param project: where documents and runbooks lie

    :raises NotFound: when there is no such checklist
    """
    from include.engine.verbs.checklist_chapters import CHECKLISTS

    if kind not in CHECKLISTS:
        raise NotFound(f"there is no checklist {kind}", hint=f"there are: {', '.join(KINDS)}")
    started = clock()
    looks = sweep.look(watch, list(watch.systems), clock=clock)
    seconds = (clock() - started).total_seconds()
    report, history = sweep.conclude(watch, looks, list(watch.systems), clock=clock, seconds=seconds, counted=False)
    seen = Inspection(
        inventory=inventory,
        pipeline=pipeline,
        watch=watch,
        report=report,
        history=history,
        project=project,
        now=clock(),
    )
    chapters = tuple(_chapter(seen, title, make) for title, make in CHECKLISTS[kind].items())
    return ChecklistReport(
        kind=kind,
        id=name,
        pipeline=inventory.pipeline,
        started=started,
        finished=clock(),
        chapters=chapters,
    )


def sign(report: ChecklistReport, signature: SignOff) -> ChecklistReport:
    """Put a person's name under a report: the last line of the checklist.  Pure."""
    verdict = Verdict.PASS if signature.accepted else Verdict.FAIL
    detail = f"{'accepted' if signature.accepted else 'refused'} by {signature.by}"
    if not signature.by:
        verdict, detail = Verdict.UNVERIFIED, "nobody's name is known"
    item = Item(name="signed", verdict=verdict, detail=detail, evidence=(signature.note,) if signature.note else ())
    chapters = tuple(one for one in report.chapters if one.title != _PEOPLE)
    return msgspec.structs.replace(
        report, chapters=(*chapters, Chapter(title=_PEOPLE, items=(item,))), signed=signature
    )


def unsigned(report: ChecklistReport) -> ChecklistReport:
    """Say that somebody has yet to sign: until then it is not proved.  Pure."""
    item = Item(name="signed", verdict=Verdict.UNVERIFIED, detail="nobody has signed yet")
    return msgspec.structs.replace(report, chapters=(*report.chapters, Chapter(title=_PEOPLE, items=(item,))))


_PEOPLE = "People"


def keep(bucket: Bucket, report: ChecklistReport) -> ChecklistReport:
    """Store a report, and give the one that counts: that of an earlier try of the run, when there is one."""
    folder = folder_of(report.kind, report.id)
    signed = "-signed" if report.signed else ""
    documents: Mapping[str, bytes] = {
        f"report{signed}.html": pages.html(report).encode(),
        f"report{signed}.md": pages.markdown(report).encode(),
        f"report{signed}.json": encode(report),
    }
    for name, content in documents.items():  # the JSON last: the report exists when it does
        bucket.create(f"{folder}/{name}", content)
    return read(bucket, report.kind, report.id)


def folder_of(kind: str, report: str) -> str:
    """Give the folder of a report."""
    return f"checklists/{kind}/{report}"


def read(bucket: Bucket, kind: str, report: str) -> ChecklistReport:
    """Give a report, the signed one when there is one.

    :raises NotFound: when there is none
    """
    folder = folder_of(kind, report)
    for name in ("report-signed.json", "report.json"):
        try:
            return decode(bucket.read(f"{folder}/{name}"), ChecklistReport, where=f"{folder}/{name}")
        except NotFound:
            continue
    raise NotFound(f"there is no report {kind} {report}", hint="the page of checklists lists those that there are")


def listed(bucket: Bucket) -> list[tuple[str, str]]:
    """Give kind and id of all reports, newest first."""
    found = [(kind, report) for kind in KINDS for report in bucket.folders(f"checklists/{kind}")]
    return sorted(found, key=lambda one: one[1], reverse=True)


def _chapter(seen: Inspection, title: str, make: Callable[[Inspection], Chapter]) -> Chapter:
    """Make a chapter; one that cannot be made is a line that is not proved, and hides no other."""
    try:
        return msgspec.structs.replace(make(seen), title=title)
    except Exception as error:  # noqa: BLE001 - what people waited for a day for is told, whatever one chapter stumbles over
        trouble = Trouble.of(error)
        detail = f"{trouble.message}. {trouble.hint}"
        item = Item(name="could not be looked at", verdict=Verdict.UNVERIFIED, detail=detail)
        return Chapter(title=title, items=(item,))


def judged(name: str, findings: Sequence[Finding], *, fine: str, read: bool, evidence: Sequence[str] = ()) -> Item:
    """Make a line of findings: PASS only when it was read, and nothing was found.  Pure."""
    if findings:
        verdict = worst([one.verdict for one in findings])
        told = tuple(f"{one.severity}: {one.subject}{_of(one)} {one.rule}: {one.detail}" for one in findings)
        detail = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
        return Item(name=name, verdict=verdict, detail=detail, evidence=(*told, *evidence))
    if not read:
        return Item(name=name, verdict=Verdict.UNVERIFIED, detail="it could not be read", evidence=tuple(evidence))
    return Item(name=name, verdict=Verdict.PASS, detail=fine, evidence=tuple(evidence))


def _of(finding: Finding) -> str:
    labels = ", ".join(f"{name} {value}" for name, value in sorted(finding.labels.items()))
    return f" ({labels})" if labels else ""


def within(at: datetime | None, limit: timedelta, now: datetime) -> bool:
    """Say whether something happened lately enough; of what is stamped with a time to come nobody knows.  Pure."""
    return at is not None and now - at <= limit and not is_ahead(at, now)
