"""Gates, the search and the comparison: decisions over numbers."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.loading import distribution
from include.engine.loading.comparison import compare, mann_whitney
from include.engine.loading.concluding import concluded
from include.engine.loading.contracts import CPU_SHARE, UNANSWERED, UNSENT
from include.engine.loading.gates import Bound, Gates, judge, judged, needed
from include.engine.loading.search import SearchPlan, found, next_rate
from include.engine.model import Check, LoadInterval, LoadResult, LoadStep, Spread, Verdict


def step(
    rate: float = 1000, *, achieved: float | None = None, p99: float = 10.0, count: int = 10_000, **more: object
) -> LoadStep:
    spread = Spread(count=count, mean=5, p50=4, p90=8, p99=p99, p999=2 * p99, max=3 * p99)
    return LoadStep(
        target_rate=rate,
        achieved_rate=rate if achieved is None else achieved,
        seconds=10,
        warm_up_seconds=1,
        from_intended=spread,
        from_sent=spread,
        **more,  # type: ignore[arg-type]
    )


def late(*, p99: float, sent: float) -> LoadStep:
    """What a generator has measured that was late itself."""
    measured = step(p99=p99, behind=0.2)
    return msgspec.structs.replace(measured, from_sent=msgspec.structs.replace(measured.from_sent, p99=sent))


CASES = [
    ("all is well", step(), Gates(latencies={"p99": 20}), Verdict.PASS),
    ("too slow", step(p99=21), Gates(latencies={"p99": 20}), Verdict.FAIL),
    ("95 % of the rate is enough", step(achieved=950), Gates(), Verdict.PASS),
    ("less is no test of it", step(achieved=949), Gates(latencies={"p99": 20}), Verdict.UNVERIFIED),
    ("too slow and too few is too slow", step(achieved=500, p99=21), Gates(latencies={"p99": 20}), Verdict.FAIL),
    ("errors", step(errors={"timeout": 1}), Gates(), Verdict.FAIL),
    ("errors that are allowed", step(errors={"timeout": 1}), Gates(errors=0.001), Verdict.PASS),
    ("nothing was done", step(count=0), Gates(), Verdict.UNVERIFIED),
    ("too few for the percentile", step(count=400), Gates(latencies={"p99": 20}), Verdict.UNVERIFIED),
    ("the generator was late", step(behind=0.06), Gates(latencies={"p99": 20}), Verdict.UNVERIFIED),
    ("one of sixteen was late", step(count=16, behind=1 / 16), Gates(), Verdict.PASS),
    ("two of sixteen were", step(count=16, behind=2 / 16), Gates(), Verdict.UNVERIFIED),
    ("the generator had no time left", step(figures={CPU_SHARE: 0.9}), Gates(), Verdict.UNVERIFIED),
    ("the generator had some", step(figures={CPU_SHARE: 0.8}), Gates(), Verdict.PASS),
    ("what failed was answered", step(achieved=900, errors={"timeout": 1000}), Gates(errors=0.1), Verdict.PASS),
    ("what was not is not", step(achieved=900, errors={UNANSWERED: 1000}), Gates(errors=0.1), Verdict.UNVERIFIED),
    ("what was never sent by its own fault", step(errors={UNSENT: 9}, behind=0.2), Gates(), Verdict.UNVERIFIED),
    ("nor what came besides", step(errors={UNSENT: 9, "timeout": 1}, behind=0.2), Gates(), Verdict.FAIL),
    ("what a held generator never sent", step(errors={UNSENT: 9}, waited=0.5), Gates(), Verdict.FAIL),
    ("late by its own fault", late(p99=21, sent=19), Gates(latencies={"p99": 20}), Verdict.UNVERIFIED),
    ("late, and the target slow", late(p99=41, sent=21), Gates(latencies={"p99": 20}), Verdict.FAIL),
    ("a figure that was not measured", step(), Gates(figures={"tasks": Bound(least=1)}), Verdict.UNVERIFIED),
    ("a figure", step(figures={"tasks": 2.0}), Gates(figures={"tasks": Bound(least=1, most=3)}), Verdict.PASS),
    ("a figure too low", step(figures={"tasks": 0.5}), Gates(figures={"tasks": Bound(least=1)}), Verdict.FAIL),
]


@pytest.mark.parametrize(
    ("measured", "gates", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_verdict_is_what_the_gates_say(measured: LoadStep, gates: Gates, verdict: Verdict) -> None:
    assert judged(measured, gates).verdict is verdict


def test_a_check_says_the_number_and_the_limit() -> None:
    (latency,) = [check for check in judge(step(p99=21), Gates(latencies={"p99": 20})) if check.name == "p99"]
    assert latency.detail == "21.00 ms from the intended time; at most 20.00 ms"


PLAN = SearchPlan(begin=100, end=100_000, factor=2, tolerance=0.1, step_seconds=10, warm_up=1, limit=10_000)


@given(st.floats(20, 90_000))
def test_a_search_finds_the_highest_rate_that_holds(capacity: float) -> None:
    steps: list[LoadStep] = []
    while (rate := next_rate(PLAN, steps, 11.0 * len(steps))) is not None:
        assert len(steps) < 25
        steps.append(judged(step(rate, p99=10 if rate <= capacity else 500), Gates(latencies={"p99": 20})))
    index = found(PLAN, steps, 0).index
    assert index is not None
    assert steps[index].target_rate <= capacity <= steps[index].target_rate * (1 + PLAN.tolerance) * 1.001


def test_a_search_ends_in_time_at_the_end_and_with_nothing() -> None:
    assert next_rate(PLAN, [judged(step(), Gates())], PLAN.limit) is None
    everything = [judged(step(rate), Gates()) for rate in (100, 100_000)]
    assert next_rate(PLAN, everything, 0) is None
    assert "asks for no more" in found(PLAN, everything, 0).why
    bad = [judged(step(rate, p99=500), Gates(latencies={"p99": 20})) for rate in (100, 50, 25, 12.5, 6.25)]
    assert next_rate(PLAN, bad, 0) is None
    assert found(PLAN, bad, 0).index is None


@pytest.mark.parametrize("capacity", [7, 60, 300])
def test_a_search_holds_a_low_rate_for_as_long_as_its_gates_need(capacity: float) -> None:
    gates = Gates(latencies={"p99": 20})
    plan = SearchPlan(begin=50, end=1000, step_seconds=8, warm_up=3, limit=1000, least=needed(gates))
    steps: list[LoadStep] = []
    elapsed = 0.0
    while (rate := next_rate(plan, steps, elapsed)) is not None:
        elapsed += plan.seconds_at(rate) + plan.warm_up
        count = round(plan.seconds_at(rate) * rate)
        steps.append(judged(step(rate, p99=10 if rate <= capacity else 500, count=count), gates))
    assert elapsed <= plan.limit
    assert not [one for one in steps if one.verdict is Verdict.UNVERIFIED]
    index = found(plan, steps, elapsed).index
    assert index is not None
    assert steps[index].target_rate <= capacity
    assert plan.seconds_at(50) == 10
    assert plan.seconds_at(1000) == 8


def test_a_search_tries_no_rate_that_it_would_have_to_hold_for_too_long() -> None:
    plan = SearchPlan(begin=50, end=1000, step_seconds=8, warm_up=3, limit=30, least=500)
    failed = [judged(step(50, p99=500), Gates(latencies={"p99": 20}))]
    assert next_rate(plan, failed, 13.0) is None  # 25 a second: 20 s of it, which would end at 36 s
    assert next_rate(plan, failed, 7.0) == 25


def test_operations_that_are_drawn_need_some_more() -> None:
    assert needed(Gates(latencies={"p50": 1})) == 10
    assert needed(Gates(latencies={"p50": 1, "p999": 1})) == 5000
    assert needed(Gates(latencies={"p99": 1}), drawn=True) == 635
    assert needed(Gates()) == 5


def test_a_rate_that_was_not_reached_does_not_count_as_kept() -> None:
    steps = [judged(step(1000), Gates()), judged(step(2000, achieved=1500), Gates())]
    assert found(PLAN, steps, 0).index == 0


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16], 0.000939),  # U = 0
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], 1.0),
        ([19, 22, 16, 29, 24], [20, 11, 17, 12], 0.1113),  # the example of scipy.stats.mannwhitneyu, asymptotic
    ],
)
def test_the_test_gives_what_it_is_known_to_give(a: list[float], b: list[float], p: float) -> None:
    assert mann_whitney(a, b) == pytest.approx(p, rel=0.01)
    assert mann_whitney(b, a) == pytest.approx(p, rel=0.01)


def result(id_: str, latency: float, *, seed: int, seconds: int = 40, profile: str = "kafka-steady") -> LoadResult:
    noise = random.Random(seed)

    def interval(second: int) -> LoadInterval:
        value = latency * noise.lognormvariate(0, 0.1)
        spread = Spread(count=100, mean=value, p50=value, p90=2 * value, p99=3 * value, p999=4 * value, max=5 * value)
        return LoadInterval(
            second=second, seconds=1, intended=100, completed=100, errors=0, from_intended=spread, from_sent=spread
        )

    now = datetime(2026, 11, 23, tzinfo=UTC)
    series = tuple(interval(second) for second in range(seconds))
    return LoadResult(
        id=id_,
        profile=profile,
        target="kafka/main",
        started=now,
        finished=now,
        environment={"kafka": "4.3"},
        declared={},
        limit=None,
        steps=(step(series=series),),
        judged=0,
        histograms={},
        checks=(),
        verdict=Verdict.PASS,
    )


def test_the_same_twice_is_no_change_and_twice_as_slow_is_one() -> None:
    same = compare(result("a", 10, seed=1), result("b", 10, seed=2))
    assert not same.changed
    slower = compare(result("a", 10, seed=1), result("b", 20, seed=2))
    assert [change.metric for change in slower.changes if change.verdict is Verdict.FAIL] == [
        "p50 from intended",
        "p99 from intended",
        "p99 from sent",
    ]
    assert "worse" in slower.changes[0].says
    assert "better" in compare(result("a", 20, seed=1), result("b", 10, seed=2)).changes[0].says


def test_chance_is_seldom_taken_for_a_change() -> None:
    wrong = sum(compare(result("a", 10, seed=2 * n), result("b", 10, seed=2 * n + 1)).changed for n in range(60))
    assert wrong <= 3


def test_what_earlier_runs_differ_by_is_noise_and_few_intervals_say_nothing() -> None:
    earlier = [result("x", 9, seed=5), result("y", 14, seed=6)]
    assert not compare(result("a", 10, seed=1), result("b", 12, seed=2), earlier=earlier).changed
    few = compare(result("a", 10, seed=1, seconds=6), result("b", 30, seed=2, seconds=6))
    assert {change.verdict for change in few.changes} == {Verdict.UNVERIFIED}
    assert "too few" in few.changes[0].says


def at_rate(id_: str, latency: float, rate: float, *, seed: int) -> LoadResult:
    made = result(id_, latency, seed=seed)
    return msgspec.structs.replace(made, steps=(msgspec.structs.replace(made.steps[0], target_rate=rate),))


def test_a_test_at_another_rate_is_no_noise_and_two_of_them_are_not_measured_against_each_other() -> None:
    before, after = at_rate("a", 10, 1000, seed=1), at_rate("b", 20, 1000, seed=2)
    assert compare(before, after, earlier=[at_rate("x", 100, 5000, seed=3)]).changed
    assert not compare(before, after, earlier=[at_rate("x", 100, 1000, seed=3)]).changed
    apart = compare(before, at_rate("b", 20, 1200, seed=2))
    assert {change.verdict for change in apart.changes} == {Verdict.UNVERIFIED}
    assert "1,000 and 1,200 operations a second were asked for" in apart.notes[0]
    drawn = compare(at_rate("a", 10, 20, seed=1), at_rate("b", 20, 22, seed=2))  # 200 of them in 10 s, and 220
    assert drawn.changed


def test_a_search_fails_for_what_the_target_did_not_take_and_not_for_what_was_never_measured() -> None:
    guards = Check(name="guards", verdict=Verdict.PASS, detail="")
    kept = judged(step(achieved=500), Gates(latencies={"p99": 20}))
    broken = judged(step(p99=21), Gates(latencies={"p99": 20}))
    assert kept.verdict is Verdict.UNVERIFIED
    for steps, verdict in [((kept,), Verdict.UNVERIFIED), ((), Verdict.UNVERIFIED), ((broken, kept), Verdict.FAIL)]:
        found_nothing = msgspec.structs.replace(result("a", 10, seed=1), steps=steps, judged=None)
        assert concluded(found_nothing, guards, stopped="", lost="", left="").verdict is verdict


def test_what_is_not_alike_is_said() -> None:
    notes = compare(result("a", 10, seed=1), result("b", 10, seed=2, profile="other")).notes
    assert notes == ("the profile differs: 'kafka-steady' and 'other'",)
    one, other = result("a", 10, seed=1), result("b", 10, seed=2)
    one = msgspec.structs.replace(one, declared={"grace": "10s", "gates": {"p99": 1}})
    other = msgspec.structs.replace(other, declared={"grace": "5s", "gates": {"p99": 1}})
    assert compare(one, other).notes == ("the declared grace differs: '10s' and '5s'",)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5_000_000_000), min_size=1, max_size=300))
def test_a_histogram_is_the_one_of_every_single_value(values: list[int]) -> None:
    one_by_one = HdrHistogram(1, distribution.LONGEST, distribution.DIGITS)
    for value in values:
        one_by_one.record_value(min(max(value, 1), distribution.LONGEST))
    assert distribution.encoded(distribution.histogram(values)) == distribution.encoded(one_by_one)
    assert distribution.spread(distribution.histogram(values)) == distribution.spread(one_by_one)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=300))
def test_a_histogram_is_true_to_a_thousandth_and_survives_being_written(values: list[int]) -> None:
    again = distribution.decoded(distribution.encoded(distribution.histogram(values)))
    exact = distribution.spread_of({value: values.count(value) for value in values})
    kept = distribution.spread(again)
    for name in ("p50", "p99", "max"):
        assert getattr(kept, name) == pytest.approx(getattr(exact, name), rel=0.002, abs=0.002)
    assert sum(count for _, _, count in distribution.buckets(again)) == len(values)
