"""What a person is told about a change: what, since when, how bad, the evidence, the runbook, and where to look.  Pure.

One message, in the three forms that receivers take.  The forms are those of RFC 5322, of Slack's incoming webhooks, and of
PagerDuty's Events API v2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from include.engine.health.findings import Change, ChangeKind, Finding
from include.engine.health.judging import Level
from include.engine.health.rules import Rule
from include.engine.watching import NotifySection, Severity

Runbook = Callable[[str], str]  # the address of a runbook's page

_HEADLINE = {
    ChangeKind.OPENED: "NEW",
    ChangeKind.WORSENED: "WORSE",
    ChangeKind.EASED: "BETTER",
    ChangeKind.CLOSED: "OVER",
}
_LONGEST_KEY = 255  # characters, of what PagerDuty tells incidents by
_PAGERDUTY = {Severity.PAGE: "critical", Severity.TODAY: "error", Severity.WEEK: "warning"}


def for_whom(section: NotifySection, changes: Mapping[int, Change]) -> dict[int, Change]:
    """Choose what one receiver is told, by severity and team.

    Who was told of something is told of its end, however urgent it is by then: an incident that was opened is closed, too.
    """
    return {number: change for number, change in changes.items() if _concerns(section, change.finding)}


def headline(change: Change) -> str:
    """Say it in one line: ``NEW critical postgres/main postgres-standbys: 0 (limit 1)``."""
    finding = change.finding
    level = "critical" if finding.level is Level.CRITICAL else "warning"
    return f"{_HEADLINE[change.kind]} {level} {finding.subject} {finding.rule}{_value(finding)}"


def text(change: Change, rule: Rule | None, runbook: Runbook, *, pipeline: str) -> str:
    """Say all of it."""
    finding = change.finding
    lines = [
        headline(change),
        f"what:     {finding.detail}",
        f"where:    {pipeline}, {finding.subject}{_labels(finding)}",
        f"since:    {finding.since:%Y-%m-%d %H:%M:%SZ}",
        f"how bad:  {finding.severity}; the worst was {_number(finding.worst, finding.unit)}",
    ]
    if rule is not None and change.kind is not ChangeKind.CLOSED:
        lines += [f"do:       {rule.action}", f"costs:    {rule.costs}"]
    return "\n".join([*lines, f"runbook:  {runbook(finding.runbook)}"])


def mail(changes: Sequence[Change], texts: Sequence[str], *, pipeline: str) -> tuple[str, str]:
    """Give subject and body of one mail about all *changes*."""
    first = headline(changes[0])
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"[{pipeline}] {first}{more}".replace("\n", " "), "\n\n".join(texts) + "\n"


def slack(texts: Sequence[str]) -> dict[str, Any]:
    """Give what an incoming webhook takes.  Nothing in it is read as a mention or a link of Slack's."""
    told = "\n\n".join(texts).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"```{told}```"}


def pagerduty(change: Change, full: str, runbook: Runbook, *, key: str, pipeline: str) -> dict[str, Any]:
    """Give an event: the same finding of the same pipeline is the same incident, from its opening to its end.

    Two pipelines may tell one service: the end of a finding of one must not close the other's incident.
    """
    finding = change.finding
    name = f"mainstay|{pipeline}|{finding.key}"
    if len(name) > _LONGEST_KEY:  # cut off, two that differ at their ends would be one
        name = f"{name[: _LONGEST_KEY - 33]}|{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    event: dict[str, Any] = {
        "routing_key": key,
        "event_action": "resolve" if change.kind is ChangeKind.CLOSED else "trigger",
        "dedup_key": name,
    }
    if change.kind is not ChangeKind.CLOSED:
        event["payload"] = {
            "summary": headline(change)[:1024],
            "source": finding.subject,
            "severity": _PAGERDUTY[finding.severity],
            "timestamp": change.at.isoformat(),
            "component": finding.subject,
            "group": finding.team,
            "class": finding.rule,
            "custom_details": {"message": full},
        }
        event["links"] = [{"href": runbook(finding.runbook), "text": "runbook"}]
    return event


def _concerns(section: NotifySection, finding: Finding) -> bool:
    urgent = set(finding.told_as) or {finding.severity}
    return not (section.severities and urgent.isdisjoint(section.severities)) and not (
        section.teams and finding.team not in section.teams
    )


def _value(finding: Finding) -> str:
    if finding.value is None:
        return ""
    limit = "" if finding.limit is None else f" (limit {_number(finding.limit, finding.unit)})"
    return f": {_number(finding.value, finding.unit)}{limit}"


def _labels(finding: Finding) -> str:
    told = ", ".join(f"{name} {value}" for name, value in sorted(finding.labels.items()))
    return f" ({told})" if told else ""


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "not a number"
    return f"{value:.4g}" if unit == "1" else f"{value:.4g} {unit}"
