"""How much of a target could be lost right now, judged from the bucket alone.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from include.engine.cli import figures
from include.engine.model import ArchiveReach, Manifest, RecoverableWindow, Target, Verdict
from include.engine.store.clocks import is_ahead


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What would be lost of a target if its source were gone.

    :param reaches: up to when everything comes back; None when nothing does
    :param windows: what can be recovered to from the newest backup on, by line of history, where there is a log archive
    :param verdict: PASS when the loss is within the objective; UNVERIFIED when the bucket does not tell
    """

    target: Target
    newest: Manifest | None
    reaches: datetime | None
    objective: timedelta
    verdict: Verdict
    detail: str
    windows: tuple[RecoverableWindow, ...] = ()


def exposure(
    target: Target,
    newest: Manifest | None,
    *,
    archive: ArchiveReach | str | None,
    objective: timedelta,
    now: datetime,
) -> Exposure:
    """Judge one target.

    :param archive: the walk from *newest*; why it could not be made; None when there is no archive
    """

    def judged(verdict: Verdict, detail: str, reaches: datetime | None) -> Exposure:
        return Exposure(
            target=target,
            newest=newest,
            reaches=reaches,
            objective=objective,
            verdict=verdict,
            detail=detail,
            windows=archive.windows if isinstance(archive, ArchiveReach) and archive.newest is not None else (),
        )

    if newest is None:
        return judged(Verdict.FAIL, "it has no backup at all", None)
    reaches, by = newest.recoverable_to, "the newest backup"
    walked = archive if archive is not None and not isinstance(archive, str) and archive.newest is not None else None
    if walked is not None and walked.verdict is Verdict.FAIL:
        return judged(Verdict.FAIL, "the log archive has a gap after the newest backup", reaches)
    if walked is not None and walked.verdict is Verdict.PASS:
        reaches, by = max([reaches, *(window.to_time for window in walked.windows)]), "the log archive"
    age = (now - reaches).total_seconds()
    if is_ahead(reaches, now):
        return judged(
            Verdict.UNVERIFIED,
            f"{by} reaches to {figures.moment(reaches)}, which is to come: a clock is wrong",
            reaches,
        )
    if age <= objective.total_seconds():
        return judged(Verdict.PASS, f"{by} reaches to {figures.age(reaches, now)} ago", reaches)
    if isinstance(archive, str):
        return judged(Verdict.UNVERIFIED, f"the log archive could not be walked: {archive}", reaches)
    if walked is not None and walked.verdict is Verdict.UNVERIFIED:
        return judged(Verdict.UNVERIFIED, "nothing proves that the log archive joins the newest backup", reaches)
    return judged(Verdict.FAIL, f"{by} ends {figures.age(reaches, now)} ago: what came after it would be lost", reaches)
