"""The life of a finding: it is suspected, opens, stays, worsens, recovers and closes.  Pure.

A person is told once per change and never per sweep.  What flaps is damped twice: a finding that recovers closes only after it
was quiet for a while, and one that keeps coming back must be quiet for longer each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from msgspec import Struct

from include.engine.health.built_in import BUILT_IN, UNREACHABLE
from include.engine.health.judging import Judgement, Level, Symptom
from include.engine.health.rules import Rule
from include.engine.model import Verdict, worst
from include.engine.watching import Severity

REMEMBERED = timedelta(hours=6)  # a finding that comes back within this time is the same trouble again
_MOST_DOUBLINGS = 4


class State(StrEnum):
    """Where a finding is in its life."""

    PENDING = "pending"  # beyond the limit, not yet for as long as the rule asks
    OPEN = "open"
    RECOVERING = "recovering"  # fine again, not yet for long enough to be believed
    CLOSED = "closed"


class ChangeKind(StrEnum):
    """What a person is told."""

    OPENED = "opened"
    WORSENED = "worsened"
    EASED = "eased"
    CLOSED = "closed"


class Finding(Struct, frozen=True, kw_only=True):
    """What a person must know.

    :param since: since when it was seen, in this life
    :param level: how bad it is now
    :param told: how bad people were told that it is
    :param told_as: how urgent they were told that it is, each of it once: whoever heard of it hears of its end
    :param worst: the value furthest from fine in this life
    :param quiet: since when it is fine, or less bad than was told
    :param openings: how often it has opened without a long quiet time between
    :param verified: whether the last sweep could look
    """

    key: str
    rule: str
    subject: str
    labels: dict[str, str] = {}
    severity: Severity
    team: str
    runbook: str
    state: State
    level: Level
    told: Level = Level.FINE
    told_as: tuple[Severity, ...] = ()
    value: float | None = None
    worst: float | None = None
    limit: float | None = None
    unit: str = "1"
    detail: str
    since: datetime
    seen: datetime
    quiet: datetime | None = None
    closed: datetime | None = None
    openings: int = 1
    verified: bool = True

    @property
    def verdict(self) -> Verdict:
        """FAIL for what is wrong now, UNVERIFIED for what could not be looked at, PASS for the rest."""
        if self.state is not State.OPEN:
            return Verdict.PASS
        unproved = self.rule in BUILT_IN and self.rule != UNREACHABLE
        return Verdict.UNVERIFIED if unproved else Verdict.FAIL


class Change(Struct, frozen=True, kw_only=True):
    """One thing to tell."""

    kind: ChangeKind
    at: datetime
    finding: Finding


@dataclass(frozen=True)
class Advanced:
    """What is known after a sweep: all findings that are alive or were lately, and what people are told."""

    findings: Sequence[Finding]
    changes: Sequence[Change]


def verdict_of(findings: Sequence[Finding], *, looked: bool) -> Verdict:
    """Join findings to the verdict of a sweep; when nothing was looked at, nothing is proved."""
    return worst([*([Verdict.PASS] if looked else []), *(finding.verdict for finding in findings)])


def advance(
    known: Mapping[str, Finding],
    judgement: Judgement,
    *,
    now: datetime,
    settle: timedelta,
    team: str,
    everything: bool = True,
) -> Advanced:
    """Take all findings one sweep further.

    :param known: findings of earlier sweeps by key, those that closed lately among them
    :param settle: how long one must be quiet before it closes
    :param team: who is told when the rule names nobody
    :param everything: whether the sweep looked at all that the inventory has; then a subject that it did not see is gone
    """
    findings: list[Finding] = []
    changes: list[Change] = []
    for key in sorted({*known, *judgement.bad}):
        symptom, finding = judgement.bad.get(key), known.get(key)
        after: Finding | None = None
        if symptom is not None:
            after = _again(finding, symptom, judgement.rules[symptom.rule], now, settle, team=team)
        elif finding is not None:
            after = _without(finding, judgement, now, settle, everything=everything)
        if after is None:
            continue
        findings.append(after)
        kind = _change(finding, after)
        if kind is not None:
            changes.append(Change(kind=kind, at=now, finding=after))
    return Advanced(findings=findings, changes=changes)


def patience(finding: Finding, settle: timedelta) -> timedelta:
    """Give how long a finding must be quiet: twice as long with each time that it came back, sixteen times at most."""
    doublings: int = min(max(finding.openings - 1, 0), _MOST_DOUBLINGS)
    return timedelta(seconds=settle.total_seconds() * (1 << doublings))


def _again(
    finding: Finding | None, symptom: Symptom, rule: Rule, now: datetime, settle: timedelta, *, team: str
) -> Finding:
    if finding is None or finding.state is State.CLOSED:
        came_back = finding is not None and finding.closed is not None and now - finding.closed < REMEMBERED
        finding = Finding(
            key=symptom.key,
            rule=symptom.rule,
            subject=symptom.subject,
            labels=symptom.labels,
            severity=rule.severity,
            team=rule.team or team,
            runbook=rule.runbook,
            state=State.PENDING,
            level=symptom.level,
            detail=symptom.detail,
            since=now,
            seen=now,
            closed=finding.closed if came_back and finding is not None else None,
            openings=finding.openings + 1 if came_back and finding is not None else 1,
        )
    severity = rule.severity if symptom.level is Level.CRITICAL or rule.critical is None else _softer(rule.severity)
    state = finding.state
    if state is State.RECOVERING or (state is State.PENDING and now - finding.since >= rule.hold):
        state = State.OPEN
    told, told_as, quiet = finding.told, finding.told_as, None
    if state is State.OPEN:
        if symptom.level >= told:
            told = symptom.level
        else:  # less bad than people believe: they are told when it stays so
            quiet = finding.quiet if finding.state is State.OPEN and finding.quiet else now
            if now - quiet >= patience(finding, settle):
                told, quiet = symptom.level, None
        if told is symptom.level and severity not in told_as:
            told_as = (*told_as, severity)
    return msgspec.structs.replace(
        finding,
        severity=severity,
        runbook=rule.runbook,
        state=state,
        level=symptom.level,
        told=told,
        told_as=told_as,
        value=symptom.value,
        worst=_worse(finding.worst, symptom),
        limit=symptom.limit,
        unit=symptom.unit,
        detail=symptom.detail,
        seen=now,
        quiet=quiet,
        closed=None if state is State.OPEN else finding.closed,
        verified=True,
    )


def _without(
    finding: Finding, judgement: Judgement, now: datetime, settle: timedelta, *, everything: bool
) -> Finding | None:
    if finding.state is State.CLOSED:
        closed = finding.closed or finding.seen
        return finding if now - closed < REMEMBERED else None
    rule = judgement.rules.get(finding.rule)
    gone = rule is None or (everything and judgement.gone(rule, finding.subject))
    gone = gone or (rule is not None and judgement.lacks(rule, finding.subject))
    if not gone and rule is not None and not judgement.knows(rule, finding.subject, finding.labels):
        return msgspec.structs.replace(finding, verified=False)  # nobody could look: it stays as it was
    if finding.state is State.PENDING:
        if finding.closed is None:
            return None
        # It was open lately, and was only suspected of being back: how often it has come back is not forgotten for that.
        return msgspec.structs.replace(finding, state=State.CLOSED, openings=finding.openings - 1)
    quiet = finding.quiet if finding.state is State.RECOVERING and finding.quiet else now
    if gone or now - quiet >= patience(finding, settle):
        return msgspec.structs.replace(finding, state=State.CLOSED, closed=now, quiet=quiet, verified=True)
    return msgspec.structs.replace(finding, state=State.RECOVERING, quiet=quiet, verified=True)


def _change(before: Finding | None, after: Finding) -> ChangeKind | None:
    told = Level.FINE if before is None or before.state is State.CLOSED else before.told
    if after.state is State.CLOSED:
        lived = before is not None and before.state in (State.OPEN, State.RECOVERING)
        return ChangeKind.CLOSED if lived else None
    if after.told == told:
        return None
    if told is Level.FINE:
        return ChangeKind.OPENED
    return ChangeKind.WORSENED if after.told > told else ChangeKind.EASED


def _softer(severity: Severity) -> Severity:
    """A warning is one step less urgent than what is critical."""
    return Severity.TODAY if severity is Severity.PAGE else Severity.WEEK


def _worse(known: float | None, symptom: Symptom) -> float | None:
    if known is None or symptom.value is None or symptom.limit is None:
        return symptom.value if symptom.value is not None else known
    return max(known, symptom.value, key=lambda value: abs(value - (symptom.limit or 0.0)))
