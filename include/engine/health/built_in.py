"""The rules that no file needs to name: what they find says that nothing is proved."""

from __future__ import annotations

from collections.abc import Mapping

from include.engine.health.rules import Rule
from include.engine.watching import Severity

UNREACHABLE, UNREAD, ABSENT, STALE, UNJUDGED = "unreachable", "unread", "absent", "stale", "unjudged"


def _built_in(name: str, severity: Severity, means: str, action: str, runbook: str = "not-read") -> Rule:
    return Rule.model_validate(
        {
            "name": name,
            "metric": f"mainstay.{name}",
            "is": "above",
            "warning": 0,
            "severity": severity,
            "means": means,
            "action": action,
            "costs": "nothing",
            "runbook": runbook,
        }
    )


BUILT_IN: Mapping[str, Rule] = {
    UNREACHABLE: _built_in(
        UNREACHABLE,
        Severity.PAGE,
        "it does not answer, or lets nobody in: nothing is known of it",
        "find out whether it runs, whether the way to it is open, and whether the login still holds",
        "system-down",
    ),
    UNREAD: _built_in(
        UNREAD,
        Severity.TODAY,
        "a number could not be read: whatever depends on it is not proved",
        "read what the probe said, and mend the right, the address or the probe",
    ),
    ABSENT: _built_in(
        ABSENT,
        Severity.TODAY,
        "a number that was always there is gone: its rules are not judged",
        "find out what changed on the system; when it is meant to be gone, change the inventory",
    ),
    STALE: _built_in(
        STALE,
        Severity.TODAY,
        "a number is too old, or from the future, to say anything about now",
        "compare the clocks of the machines, and look at what takes the readings",
    ),
    UNJUDGED: _built_in(
        UNJUDGED,
        Severity.WEEK,
        "a rule is never judged because nothing gives its metric",
        "mend the metric of the rule; ./mainstay sweep --json lists those that there are",
    ),
}
