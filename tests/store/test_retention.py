"""What is kept, and why: golden tables for people, properties for everything nobody thought of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.errors import Misconfigured
from include.engine.store.retention import Candidate, Policy, reasons
from tests.store.making import DAY, NOW, days_ago


def taken(days: float, **more: Any) -> Candidate:
    """A candidate that is named after how many days ago it was taken."""
    at = days_ago(days)
    plain = Candidate(id=f"{days:g}", at=at, finished=at + timedelta(hours=1))
    return msgspec.structs.replace(plain, **more)


NIGHTLY = [taken(days) for days in range(1, 401)]


def kept(policy: Policy, candidates: Sequence[Candidate] = NIGHTLY) -> list[str]:
    return list(reasons(candidates, policy, NOW))


# NOW is Monday, 23 November 2026, 12:00.  Days ago: 1 is Sunday the 22nd, 23 is the last of October, 327 the last of 2025.
GOLDEN: Mapping[str, tuple[Policy, list[str]]] = {
    "redundancy": (Policy(redundancy=3), ["1", "2", "3"]),
    "a window, and the one that it begins with": (Policy(recovery_window=4 * DAY), ["1", "2", "3", "4", "5"]),
    "daily": (Policy(daily=2), ["1", "2"]),
    "weekly": (Policy(weekly=3), ["1", "8", "15"]),
    "monthly": (Policy(monthly=3), ["1", "23", "54"]),
    "yearly": (Policy(yearly=5), ["1", "327"]),
    "all together add up": (
        Policy(redundancy=2, recovery_window=3 * DAY, daily=5, weekly=2, monthly=2, yearly=2),
        ["1", "2", "3", "4", "5", "8", "23", "327"],
    ),
    "a minimum beats a short window": (Policy(recovery_window=timedelta(hours=1), minimum=3), ["1", "2", "3"]),
}


@pytest.mark.parametrize(("policy", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_a_policy_over_400_nights_keeps(policy: Policy, expected: list[str]) -> None:
    assert kept(policy) == expected


def test_a_policy_without_a_rule_keeps_everything() -> None:
    found = reasons(NIGHTLY, Policy(), NOW)
    assert len(found) == 400
    assert found["2"] == ("the policy keeps everything",)


def test_nothing_to_decide_is_no_error() -> None:
    assert reasons([], Policy(redundancy=1), NOW) == {}


def test_every_reason_is_told() -> None:
    candidates = [
        taken(1),
        taken(2, verified=True, needs=("4",)),
        taken(4, needs=("9",)),
        taken(5, kept_by="ana: the audit"),
        taken(6, locked_until=NOW + DAY),
        taken(7, locked_until=NOW - DAY),
        taken(9),
        taken(10),
    ]
    assert reasons(candidates, Policy(redundancy=1, recovery_window=DAY, weekly=1), NOW) == {
        "1": (
            "the newest",
            "one of the last 1",
            "inside the recovery window of 1 day",
            "the newest of the week 2015-W47 (weekly 1 of 1)",
        ),
        "2": ("the newest verified", "the recovery window of 1 day begins with it"),
        "4": ("needed by 2",),
        "5": ("kept by ana: the audit",),
        "6": ("locked until 2015-11-24 12:00Z",),
        "9": ("needed by 4",),
    }


def test_one_that_finished_exactly_at_the_start_of_the_window_is_the_one_it_begins_with() -> None:
    edge = Candidate(id="edge", at=days_ago(4.5), finished=days_ago(4))
    assert kept(Policy(recovery_window=4 * DAY), [taken(1), edge, taken(5)]) == ["1", "edge"]


def test_a_long_backup_counts_from_when_it_was_finished() -> None:
    long = Candidate(id="long", at=days_ago(9), finished=days_ago(3))
    assert kept(Policy(recovery_window=5 * DAY), [taken(1), long, taken(8), taken(12)]) == ["1", "8", "long"]


def test_a_window_longer_than_history_keeps_all_of_it() -> None:
    assert len(kept(Policy(recovery_window=timedelta(days=999_999_999)))) == 400


def test_one_from_the_future_does_not_push_out_the_newest() -> None:
    future = Candidate(id="2099", at=NOW + 30_000 * DAY, finished=NOW + 30_000 * DAY)
    found = reasons([future, taken(1), taken(2)], Policy(redundancy=1), NOW)
    assert set(found) == {"2099", "1"}
    assert "newer than the clock" in found["2099"]


@pytest.mark.parametrize("skew", [timedelta(days=-4000), timedelta(minutes=-5), timedelta(minutes=5), 4000 * DAY])
def test_a_wrong_clock_never_costs_the_newest(skew: timedelta) -> None:
    policy = Policy(redundancy=1, recovery_window=DAY)
    candidates = [taken(1), taken(2, verified=True), taken(3)]
    assert {"1", "2"} <= set(reasons(candidates, policy, NOW + skew))


def test_a_parent_that_is_gone_already_is_no_error() -> None:
    assert kept(Policy(redundancy=1), [taken(1, needs=("77",))]) == ["1"]


def test_a_circle_of_needs_ends() -> None:
    assert kept(Policy(redundancy=1), [taken(1, needs=("2",)), taken(2, needs=("1",)), taken(3)]) == ["1", "2"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(), "everything"),
        (Policy(redundancy=7), "the last 7"),
        (
            Policy(redundancy=7, recovery_window=14 * DAY, daily=7, weekly=4, monthly=12, yearly=3, minimum=2),
            "the last 7, any moment of the last 14 days, 7 daily, 4 weekly, 12 monthly, 3 yearly, never fewer than 2",
        ),
        (Policy(recovery_window=timedelta(hours=36)), "any moment of the last 36 hours"),
        (Policy(recovery_window=timedelta(seconds=90)), "any moment of the last 90 seconds"),
    ],
)
def test_a_policy_says_what_it_keeps(policy: Policy, said: str) -> None:
    assert str(policy) == said


def test_a_policy_that_makes_no_sense_lists_all_that_is_wrong() -> None:
    with pytest.raises(Misconfigured, match=r"daily -1.*redundancy 0.*window.*minimum 0"):
        Policy(redundancy=0, daily=-1, recovery_window=timedelta(), minimum=0)


counts = st.integers(0, 4)
policies = st.builds(
    Policy,
    redundancy=st.none() | st.integers(1, 4),
    recovery_window=st.none() | st.timedeltas(timedelta(hours=1), timedelta(days=60)),
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    minimum=st.integers(1, 3),
)
clocks = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)).map(lambda at: at.replace(tzinfo=NOW.tzinfo))


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Up to 12 candidates around NOW, with chains, pins, locks and verifications."""
    count = draw(st.integers(0, 12))
    ages = draw(st.lists(st.floats(-40, 500), min_size=count, max_size=count))
    found: list[Candidate] = []
    for number, age in enumerate(ages):
        at = days_ago(age)
        found.append(
            Candidate(
                id=f"c{number}",
                at=at,
                finished=at + timedelta(hours=draw(st.integers(0, 72))),
                verified=draw(st.booleans()),
                kept_by=draw(st.sampled_from([None, None, None, "ana"])),
                locked_until=draw(st.none() | clocks),
                needs=tuple(draw(st.lists(st.sampled_from([f"c{n}" for n in range(count)]), max_size=2))),
            )
        )
    return found


def _survivors(candidates: Sequence[Candidate], policy: Policy, now: datetime) -> list[Candidate]:
    found = reasons(candidates, policy, now)
    return [candidate for candidate in candidates if candidate.id in found]


@given(histories(), policies, clocks)
def test_deciding_again_keeps_all_that_is_left(candidates: list[Candidate], policy: Policy, now: datetime) -> None:
    left = _survivors(candidates, policy, now)
    assert _survivors(left, policy, now) == left


@given(histories(), policies, clocks)
def test_a_chain_is_never_broken(candidates: list[Candidate], policy: Policy, now: datetime) -> None:
    found = reasons(candidates, policy, now)
    present = {candidate.id for candidate in candidates}
    for candidate in candidates:
        if candidate.id in found:
            assert set(candidate.needs) & present <= found.keys()


@given(histories(), policies, clocks)
def test_the_newest_the_newest_verified_the_pinned_and_the_locked_stay(
    candidates: list[Candidate], policy: Policy, now: datetime
) -> None:
    found = reasons(candidates, policy, now)
    for group in ([c for c in candidates if c.at <= now], candidates):
        for some in (group, [c for c in group if c.verified]):
            if some:
                assert max(some, key=lambda c: (c.at, c.id)).id in found
    assert all(c.id in found for c in candidates if c.kept_by or (c.locked_until and c.locked_until > now))


@given(histories(), policies, policies, clocks)
def test_more_rules_never_keep_less(candidates: list[Candidate], one: Policy, two: Policy, now: datetime) -> None:
    if one.keeps_all:
        return
    both = Policy(
        redundancy=max(one.redundancy or 0, two.redundancy or 0) or None,
        recovery_window=max(one.recovery_window or timedelta(), two.recovery_window or timedelta()) or None,
        daily=max(one.daily, two.daily),
        weekly=max(one.weekly, two.weekly),
        monthly=max(one.monthly, two.monthly),
        yearly=max(one.yearly, two.yearly),
        minimum=max(one.minimum, two.minimum),
    )
    assert reasons(candidates, one, now).keys() <= reasons(candidates, both, now).keys()


@given(histories(), policies, clocks)
def test_every_kept_one_has_a_reason_and_the_order_given_does_not_matter(
    candidates: list[Candidate], policy: Policy, now: datetime
) -> None:
    found = reasons(candidates, policy, now)
    assert all(found.values())
    assert reasons(candidates[::-1], policy, now).keys() == found.keys()


@given(histories(), clocks)
def test_redundancy_keeps_at_least_so_many(candidates: list[Candidate], now: datetime) -> None:
    assert len(reasons(candidates, Policy(redundancy=3), now)) >= min(3, len(candidates))


@settings(max_examples=50)
@given(histories(), st.timedeltas(timedelta(hours=1), timedelta(days=60)), clocks, st.floats(0, 1))
def test_any_moment_of_the_window_can_be_recovered_as_before(
    candidates: list[Candidate], window: timedelta, now: datetime, share: float
) -> None:
    """What a recovery to a moment would have begun with before expiry, the newest finished by then, is still there."""
    candidates = [candidate for candidate in candidates if candidate.at <= now]
    moment = now - window * share
    left = _survivors(candidates, Policy(recovery_window=window), now)

    def start(some: Sequence[Candidate]) -> datetime | None:
        return max((c.finished for c in some if c.finished <= moment), default=None)

    assert start(left) == start(candidates)
