"""From readings to symptoms: which values are beyond their limits now, and what could not be read at all.  Pure.

Time comes in later (:mod:`include.engine.health.findings`): a symptom is of one sweep.  Four kinds come without a rule,
because they say that nothing is proved: a system that does not answer, a probe that failed, a metric that vanished, a reading
that is old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from msgspec import Struct

from include.engine.health.built_in import ABSENT, BUILT_IN, STALE, UNJUDGED, UNREACHABLE, UNREAD
from include.engine.health.looks import Look, nonsense
from include.engine.health.rules import Rule, RuleBook
from include.engine.model import Reading

_EVIDENCE = frozenset({"topics"})  # labels that say what was seen, and change while the trouble stays the same
_UP = ".up"  # ends the metric that says of a node or a component whether it lives
FRESH = timedelta(minutes=10)  # an older reading says nothing about now

# What gives the value of ``expect.…`` and ``objective.…`` for a subject; nothing when it was not declared.
Limits = Callable[[str, str], float | None]


class Level(IntEnum):
    """How bad a value is."""

    FINE = 0
    WARNING = 1
    CRITICAL = 2


class Symptom(Struct, frozen=True, kw_only=True):
    """Something that is not as it should be, in one sweep.

    :param value: None when there is no number because it could not be read
    """

    rule: str
    subject: str
    labels: dict[str, str] = {}
    level: Level
    value: float | None = None
    limit: float | None = None
    unit: str = "1"
    detail: str

    @property
    def key(self) -> str:
        """What tells it from every other."""
        return key_of(self.rule, self.subject, self.labels)


@dataclass(frozen=True)
class Judgement:
    """What a sweep says.

    :param bad: symptoms by their keys
    :param subjects: everything that was looked at, and everything else is not known
    :param read: the metrics that were read of each subject, or that a probe would have given had there been anything; one
        that should be there and is not was not read
    :param whole: the subjects of which every probe was read
    :param promised: the metrics that some probe of a subject gives, now or at times
    :param answered: the subjects that have said something, be it nonsense
    :param unseen: the systems of which nobody has looked at anything
    :param failed: the probes that failed, each with its subject
    :param series: what was read, series by series: metric, subject and labels as in a key
    :param unclear: those of which what was given says nothing: it is no number, or of another time
    :param down: labels of what a reading of its subject says to be down
    """

    bad: Mapping[str, Symptom]
    subjects: frozenset[str]
    read: frozenset[tuple[str, str]]
    whole: frozenset[str] = frozenset()
    promised: frozenset[tuple[str, str]] = frozenset()
    answered: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    failed: frozenset[tuple[str, str]] = frozenset()
    series: frozenset[str] = frozenset()
    unclear: frozenset[str] = frozenset()
    down: Sequence[tuple[str, Mapping[str, str]]] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def knows(self, rule: Rule, subject: str, labels: Mapping[str, str]) -> bool:
        """Whether it can say that one series of *subject* is fine as far as *rule* goes."""
        if rule.name == UNREACHABLE:
            return subject in self.answered
        if rule.name in BUILT_IN:
            return subject in self.subjects and (subject, labels.get("probe", "")) not in self.failed
        series = key_of(rule.metric, subject, labels)
        if series in self.unclear or (subject, rule.metric) not in self.read:
            return False
        return series in self.series or not self._went_down(subject, labels)

    def _went_down(self, subject: str, labels: Mapping[str, str]) -> bool:
        """Whether the node is down that a series is of: that it is not given says nothing then."""
        return any(
            shared and all(labels[name] == part[name] for name in shared)
            for of, part in self.down
            if of == subject and (shared := labels.keys() & part.keys())
        )

    def gone(self, rule: Rule, subject: str) -> bool:
        """Whether there is no such *subject* any more, after a look at everything.  Whom nobody looked at is not gone."""
        if rule.name == UNJUDGED:  # of a rule: while a probe fails that may give its metric, nobody can say
            judged = self.rules.get(subject.partition("/")[2])
            troubled = {of.partition("/")[0] for of, _ in self.failed}
            return judged is None or judged.metric.partition(".")[0] not in troubled
        return subject not in self.subjects and subject.partition("/")[0] not in self.unseen

    def lacks(self, rule: Rule, subject: str) -> bool:
        """Whether nothing reads of *subject* any more what *rule* judges: its probe went out of the inventory."""
        return rule.name not in BUILT_IN and subject in self.whole and (subject, rule.metric) not in self.promised


def key_of(rule: str, subject: str, labels: Mapping[str, str]) -> str:
    """Name what a rule says about one series of a subject."""
    told = ",".join(f"{name}={value}" for name, value in sorted(labels.items()) if name not in _EVIDENCE)
    return f"{rule}|{subject}|{told}"


def judge(
    book: RuleBook, looks: Sequence[Look], *, limits: Limits, now: datetime, fresh: timedelta = FRESH
) -> Judgement:
    """Judge all *looks* of one sweep.

    :param limits: gives what a rule's ``expect.…`` or ``objective.…`` stands for
    :param fresh: a reading that is older, or further in the future, is not judged but told
    """
    symptoms = [*_without_rules(looks, now, fresh), *_without_metrics(book, looks)]
    read: set[tuple[str, str]] = set()
    series: set[str] = set()
    unclear: set[str] = set()
    down: list[tuple[str, Mapping[str, str]]] = []
    by_metric: dict[str, list[tuple[str, Reading]]] = {}
    for look in looks:
        if look.trouble is None:
            read |= {(look.subject, metric) for metric in look.sometimes}
        for reading in look.readings:
            key = key_of(reading.metric, look.subject, reading.labels)
            if abs(now - reading.at) > fresh or nonsense([reading]) is not None:
                unclear.add(key)
            else:
                read.add((look.subject, reading.metric))
                series.add(key)
                if reading.metric.endswith(_UP) and not reading.value and reading.labels:
                    down.append((look.subject, reading.labels))
                by_metric.setdefault(reading.metric, []).append((look.subject, reading))
    for rule in book.rules.values():
        for subject, reading in by_metric.get(rule.metric, ()):
            symptoms += _beyond(rule, subject, reading, limits)
    bad: dict[str, Symptom] = {}
    for symptom in symptoms:  # of two of the same key, the worse
        if symptom.key not in bad or bad[symptom.key].level < symptom.level:
            bad[symptom.key] = symptom
    subjects = frozenset(look.subject for look in looks)
    return Judgement(
        bad=bad,
        subjects=subjects,
        read=frozenset(read),
        whole=subjects - {look.subject for look in looks if look.trouble is not None},
        promised=frozenset((look.subject, metric) for look in looks for metric in _given(look)),
        answered=frozenset(look.subject for look in looks if _answered(look)),
        unseen=frozenset(look.system for look in looks if look.whole),
        failed=frozenset((look.subject, look.probe) for look in looks if look.trouble is not None),
        series=frozenset(series),
        unclear=frozenset(unclear),
        down=down,
        rules={**BUILT_IN, **book.rules},
    )


def level_of(rule: Rule, value: float, warning: float | None, critical: float | None) -> Level:
    """Say how bad *value* is."""
    if critical is not None and rule.compare.holds(value, critical):
        return Level.CRITICAL
    if warning is not None and rule.compare.holds(value, warning):
        return Level.WARNING
    return Level.FINE


def resolved(limit: float | str | None, subject: str, limits: Limits) -> float | None:
    """Give the number that a rule's limit stands for."""
    return limits(limit, subject) if isinstance(limit, str) else limit


def _beyond(rule: Rule, subject: str, reading: Reading, limits: Limits) -> Iterable[Symptom]:
    if any(reading.labels.get(name) != value for name, value in rule.where.items()):
        return
    warning, critical = (resolved(limit, subject, limits) for limit in (rule.warning, rule.critical))
    level = level_of(rule, reading.value, warning, critical)
    if level is Level.FINE:
        return
    limit = critical if level is Level.CRITICAL else warning
    yield Symptom(
        rule=rule.name,
        subject=subject,
        labels=reading.labels,
        level=level,
        value=reading.value,
        limit=limit,
        unit=reading.unit,
        detail=rule.means,
    )


def _without_rules(looks: Sequence[Look], now: datetime, fresh: timedelta) -> Iterable[Symptom]:
    for subject, of_subject in _by_subject(looks).items():
        silent = [look for look in of_subject if look.trouble and look.trouble.silent]
        if silent and len(silent) == len(of_subject):
            trouble = silent[0].trouble
            assert trouble is not None
            told = f"{trouble.message}. {trouble.hint}"
            yield Symptom(rule=UNREACHABLE, subject=subject, level=Level.CRITICAL, detail=told)
            continue  # what could not be read of a system that is down is no news
        for look in of_subject:
            yield from _of_one(look, now, fresh)


def _of_one(look: Look, now: datetime, fresh: timedelta) -> Iterable[Symptom]:
    labels = {"probe": look.probe}

    def told(rule: str, detail: str, **more: str) -> Symptom:
        return Symptom(rule=rule, subject=look.subject, labels=labels | more, level=Level.WARNING, detail=detail)

    if look.trouble is not None:
        yield told(UNREAD, f"{look.source} could not be read: {look.trouble.message}. {look.trouble.hint}")
        return
    given = {reading.metric for reading in look.readings}
    for metric in sorted(set(look.metrics) - given):
        yield told(ABSENT, f"there is no {metric}, which {look.source} should tell", metric=metric)
    wrong = nonsense(look.readings)
    if wrong is not None:
        yield told(UNREAD, f"{look.source} says that {wrong.metric} is {wrong.value}, which is no number")
    old = [reading for reading in look.readings if abs(now - reading.at) > fresh]
    if old:
        yield told(STALE, f"{look.source}: {old[0].metric} is of {old[0].at:%Y-%m-%d %H:%M:%SZ}")


def _without_metrics(book: RuleBook, looks: Sequence[Look]) -> Iterable[Symptom]:
    """Find rules that can never be judged: a metric that nothing gives is a typing error more often than not."""
    # A look that failed may be the one that gives it.
    systems = {look.system for look in looks} - {look.system for look in looks if look.trouble is not None}
    given = {metric for look in looks for metric in _given(look)}
    for rule in book.rules.values():
        system = rule.metric.partition(".")[0]
        if system in systems and rule.metric not in given and not rule.optional:
            detail = (
                f"no probe gives {rule.metric}, so the rule is never judged; mend its metric, or say optional: true"
            )
            yield Symptom(rule=UNJUDGED, subject=f"rules/{rule.name}", level=Level.WARNING, detail=detail)


def _answered(look: Look) -> bool:
    # What could not even be opened has asked nobody, and promises nothing.
    return look.trouble is None or (bool(look.metrics) and not look.trouble.silent)


def _given(look: Look) -> set[str]:
    return {*look.metrics, *look.sometimes, *(reading.metric for reading in look.readings)}


def _by_subject(looks: Sequence[Look]) -> dict[str, list[Look]]:
    found: dict[str, list[Look]] = {}
    for look in looks:
        found.setdefault(look.subject, []).append(look)
    return found
