"""Retention: what to keep, and why.  Pure: nothing here reads a clock or a store, and whatever is not kept may be deleted.

The rules add up: a candidate is kept when any of them keeps it.  On top of the policy, and whatever it says, these are
kept: the newest, the newest verified, what a person pinned, what the store has locked, what is newer than the clock, and
everything that a kept one needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from include.engine.errors import Misconfigured

_PERIODS: Mapping[str, tuple[str, Callable[[datetime], str]]] = {
    "daily": ("day", lambda at: f"{at:%Y-%m-%d}"),
    "weekly": ("week", lambda at: f"{at:%G-W%V}"),
    "monthly": ("month", lambda at: f"{at:%Y-%m}"),
    "yearly": ("year", lambda at: f"{at:%Y}"),
}


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Policy(Struct, frozen=True, kw_only=True):
    """What to keep.  A policy without any rule keeps everything.

    :param redundancy: the newest so many
    :param recovery_window: all that is needed to go back to any moment in it: what finished inside the window, and the newest
        that finished at or before its start (as Barman has it)
    :param daily: the newest of each of the last so many days that have any; ``weekly`` (ISO weeks), ``monthly``, ``yearly``
        likewise.  All in UTC
    :param minimum: so many of the newest are kept whatever the rules above say; never less than 1
    """

    redundancy: int | None = None
    recovery_window: timedelta | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    minimum: int = 1

    def __post_init__(self) -> None:
        mistakes = [f"{name} {getattr(self, name)} is negative" for name in _PERIODS if getattr(self, name) < 0]
        if self.redundancy is not None and self.redundancy < 1:
            mistakes.append(f"redundancy {self.redundancy} would keep nothing")
        if self.recovery_window is not None and self.recovery_window <= timedelta():
            mistakes.append(f"the recovery window {self.recovery_window} is empty")
        if self.minimum < 1:
            mistakes.append(f"minimum {self.minimum} is less than 1")
        if mistakes:
            raise Misconfigured(
                f"the retention policy makes no sense: {'; '.join(mistakes)}", hint="leave out what you do not want"
            )

    @property
    def keeps_all(self) -> bool:
        """Whether there is no rule at all."""
        return self.redundancy is None and self.recovery_window is None and not any(getattr(self, n) for n in _PERIODS)

    def __str__(self) -> str:
        if self.keeps_all:
            return "everything"
        rules = [f"the last {self.redundancy}"] if self.redundancy is not None else []
        if self.recovery_window is not None:
            rules.append(f"any moment of the last {_spoken(self.recovery_window)}")
        rules += [f"{getattr(self, name)} {name}" for name in _PERIODS if getattr(self, name)]
        if self.minimum > 1:
            rules.append(f"never fewer than {self.minimum}")
        return ", ".join(rules)


class Candidate(Struct, frozen=True, kw_only=True):
    """One set or backup, as far as retention cares.

    :param at: the moment that it stands for
    :param finished: when it was complete: from then on a recovery can begin with it
    :param verified: it was read back, or restored, and found good
    :param kept_by: who or what pinned it
    :param locked_until: the store refuses to delete it before
    :param needs: other candidates without which it cannot be restored
    """

    id: str
    at: datetime
    finished: datetime
    verified: bool = False
    kept_by: str | None = None
    locked_until: datetime | None = None
    needs: tuple[str, ...] = ()


def reasons(candidates: Iterable[Candidate], policy: Policy, now: datetime) -> dict[str, tuple[str, ...]]:
    """Give why each candidate that must stay is kept.  What is not in the result may be deleted.

    Deciding again over what is left keeps all of it, and adding a rule to a policy that has one never keeps less.
    """
    newest_first = sorted(candidates, key=lambda candidate: (candidate.at, candidate.id), reverse=True)
    # One whose clock ran ahead must not count as the newest for years, and push out those that really are.
    ahead = [candidate for candidate in newest_first if candidate.at > now]
    past = [candidate for candidate in newest_first if candidate.at <= now]
    found: dict[str, list[str]] = defaultdict(list)
    for candidate in ahead:
        found[candidate.id].append("newer than the clock")
    for candidate, reason in [*_always(past, now), *_always(ahead, now), *_by_rule(past, policy, now)]:
        found[candidate.id].append(reason)
    _close(found, {candidate.id: candidate for candidate in newest_first})
    return {c.id: tuple(dict.fromkeys(found[c.id])) for c in newest_first if c.id in found}


_Kept = Iterable[tuple[Candidate, str]]


def _always(newest_first: Sequence[Candidate], now: datetime) -> _Kept:
    if newest_first:
        yield newest_first[0], "the newest"
    verified = next((candidate for candidate in newest_first if candidate.verified), None)
    if verified is not None:
        yield verified, "the newest verified"
    for candidate in newest_first:
        if candidate.kept_by is not None:
            yield candidate, f"kept by {candidate.kept_by}"
        if candidate.locked_until is not None and candidate.locked_until > now:
            yield candidate, f"locked until {candidate.locked_until:%Y-%m-%d %H:%MZ}"


def _by_rule(newest_first: Sequence[Candidate], policy: Policy, now: datetime) -> _Kept:
    if policy.keeps_all:
        yield from ((candidate, "the policy keeps everything") for candidate in newest_first)
        return
    if policy.redundancy is not None:
        yield from ((c, f"one of the last {policy.redundancy}") for c in newest_first[: policy.redundancy])
    if policy.minimum > 1:
        yield from ((c, f"one of at least {policy.minimum}") for c in newest_first[: policy.minimum])
    if policy.recovery_window is not None:
        yield from _in_window(newest_first, policy.recovery_window, now)
    for rule, (period, name) in _PERIODS.items():
        yield from _newest_of_each(newest_first, rule, getattr(policy, rule), period, name)


def _in_window(newest_first: Sequence[Candidate], window: timedelta, now: datetime) -> _Kept:
    spoken = _spoken(window)
    start = now - min(window, now - _LONG_AGO)
    for candidate in newest_first:
        if candidate.finished > start:
            yield candidate, f"inside the recovery window of {spoken}"
    before = [candidate for candidate in newest_first if candidate.finished <= start]
    if before:
        first = max(before, key=lambda candidate: (candidate.finished, candidate.id))
        yield first, f"the recovery window of {spoken} begins with it"


def _newest_of_each(
    newest_first: Sequence[Candidate], rule: str, count: int, period: str, name: Callable[[datetime], str]
) -> _Kept:
    chosen: dict[str, Candidate] = {}
    for candidate in newest_first:
        chosen.setdefault(name(candidate.at.astimezone(UTC)), candidate)
    for number, (label, candidate) in enumerate(list(chosen.items())[:count], start=1):
        yield candidate, f"the newest of the {period} {label} ({rule} {number} of {count})"


def _close(found: dict[str, list[str]], by_id: Mapping[str, Candidate]) -> None:
    waiting = list(found)
    while waiting:
        keeper = by_id[waiting.pop()]
        for needed in keeper.needs:
            if needed not in by_id:
                continue  # gone already: there is nothing left to keep
            if needed not in found:
                waiting.append(needed)
            found[needed].append(f"needed by {keeper.id}")


def _spoken(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds:g} seconds"
