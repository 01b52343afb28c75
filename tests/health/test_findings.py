"""The life of a finding, golden and with properties: once per change, never per sweep, and damped when it flaps."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.health.findings import REMEMBERED, Change, ChangeKind, State, patience, verdict_of
from include.engine.health.judging import Level
from include.engine.health.looks import Look
from include.engine.health.messages import for_whom
from include.engine.model import Verdict
from include.engine.watching import NotifyKind, NotifySection, Severity
from tests.health.making import BROKEN, DOWN, NOW, RULE, STEP, Life, book, look, reading


def test_it_opens_stays_worsens_recovers_and_closes_and_each_change_is_told_once() -> None:
    life = Life()
    for value in (1, 6, 6, 6, 10, 10, 10, 1):
        life.load(value)
    assert life.told == ["opened", "worsened"]
    assert life.states() == ["recovering"]
    life.load(1)
    life.load(1)
    assert life.told == ["opened", "worsened", "closed"]
    life.load(1)
    assert life.told[3:] == []


def test_a_rule_that_asks_for_time_opens_only_when_it_held_for_so_long() -> None:
    life = Life(book("    for: 10m\n"))
    life.load(6)
    assert life.states() == ["pending"]
    life.load(6)
    assert life.told == []
    life.load(6)
    assert life.told == ["opened"]


def test_a_spike_that_ends_before_its_time_is_told_to_nobody() -> None:
    life = Life(book("    for: 10m\n"))
    for value in (6, 6, 1, 6, 6, 1):
        life.load(value)
    assert life.told == []
    assert life.states() == []


def test_what_gets_better_is_told_when_it_stays_better() -> None:
    life = Life()
    for value in (10, 6, 10, 6, 10, 6):
        life.load(value)
    assert life.told == ["opened"]
    for value in (6, 6, 6):
        life.load(value)
    assert life.told == ["opened", "eased"]


def test_a_finding_stays_open_while_nobody_can_look() -> None:
    life = Life()
    life.load(10)
    for trouble in (DOWN, BROKEN, DOWN):
        life.sees(look(trouble=trouble))
    finding = life.known["load|box/one|"]
    assert finding.state is State.OPEN
    assert not finding.verified
    assert "closed" not in life.told[:2]


def test_a_sweep_of_one_system_says_nothing_about_the_others() -> None:
    life = Life()
    life.load(10)
    for _ in range(9):
        life.sees(
            look(reading(1, "other.load", at=life.now), subject="other/one", metrics=("other.load",)), everything=False
        )
    assert life.known["load|box/one|"].state is State.OPEN


def test_what_the_inventory_no_longer_has_is_closed() -> None:
    life = Life()
    life.load(10)
    life.sees(look(reading(1, "other.load", at=life.now), subject="other/one", metrics=("other.load",)))
    assert life.told == ["opened", "closed"]


def test_a_rule_that_is_gone_closes_its_findings() -> None:
    life = Life()
    life.load(10)
    life.rules = book().model_copy(update={"rules": {}})
    life.load(10)
    assert life.told == ["opened", "closed"]


def test_a_series_that_is_gone_is_fine_when_the_probe_could_read() -> None:
    life = Life()
    life.sees(look(reading(10, at=life.now, disk="a"), reading(1, at=life.now, disk="b")))
    for _ in range(3):
        life.sees(look(reading(1, at=life.now, disk="b")))
    assert life.told == ["opened", "closed"]


def test_one_that_keeps_coming_back_must_be_quiet_for_longer() -> None:
    life = Life(settle=STEP)
    for value in (10, 1, 1) * 4:
        life.load(value)
    (finding,) = life.known.values()
    assert finding.openings >= 2
    assert patience(finding, STEP) >= 2 * STEP
    assert life.told.count("opened") < 4


def test_a_spike_does_not_make_anybody_forget_how_often_it_came_back() -> None:
    life = Life(book("    for: 10m\n"), settle=STEP)
    for value in (6, 6, 6, 1, 1):
        life.load(value)
    assert (life.told, life.states()) == (["opened", "closed"], ["closed"])
    for value in (6, 1):
        life.load(value)
    assert (life.told, life.states()) == (["opened", "closed"], ["closed"])  # nobody hears of a suspicion
    for value in (6, 6, 6):
        life.load(value)
    (finding,) = life.known.values()
    assert (life.told, finding.openings, finding.closed) == (["opened", "closed", "opened"], 2, None)


def test_a_warning_is_less_urgent_than_what_is_critical() -> None:
    life = Life()
    life.load(6)
    severities = [life.known["load|box/one|"].severity]
    life.load(10)
    severities.append(life.known["load|box/one|"].severity)
    assert severities == [Severity.TODAY, Severity.PAGE]


def heard(changes: list[Change], *severities: Severity) -> list[str]:
    """Name what a receiver of these severities hears of."""
    section = NotifySection(kind=NotifyKind.PAGERDUTY, connection="pager", severities=severities)
    return [str(change.kind) for change in for_whom(section, dict(enumerate(changes))).values()]


def test_who_was_paged_hears_that_it_eased_and_that_it_is_over() -> None:
    life = Life()
    changes = [change for value in (10, 6, 6, 6, 1, 1, 1) for change in life.load(value).changes]
    assert heard(changes, Severity.PAGE) == ["opened", "eased", "closed"]
    assert heard(changes, Severity.TODAY) == ["eased", "closed"]
    assert heard(changes, Severity.WEEK) == []


def test_who_heard_of_the_warning_hears_the_end_of_what_became_a_page() -> None:
    life = Life()
    changes = [change for value in (6, 10, 1, 1, 1) for change in life.load(value).changes]
    assert heard(changes, Severity.TODAY) == ["opened", "worsened", "closed"]
    assert heard(changes, Severity.PAGE) == ["worsened", "closed"]


def test_a_clock_that_jumps_back_closes_nothing() -> None:
    life = Life()
    life.load(10)
    life.load(1)
    life.now -= timedelta(hours=1)
    life.load(1)
    assert life.states() == ["recovering"]


def test_the_verdict_of_nothing_is_that_nothing_is_proved() -> None:
    assert verdict_of([], looked=False) is Verdict.UNVERIFIED
    assert verdict_of([], looked=True) is Verdict.PASS
    life = Life()
    life.sees(look(trouble=BROKEN), look(reading(1, at=life.now)))
    assert verdict_of(list(life.known.values()), looked=True) is Verdict.UNVERIFIED
    life.sees(look(trouble=DOWN))
    assert verdict_of(list(life.known.values()), looked=True) is Verdict.FAIL


values = st.lists(st.sampled_from([1.0, 6.0, 10.0, None]), min_size=1, max_size=288)


@settings(max_examples=120, deadline=None)
@given(values)
def test_changes_alternate_and_are_few_whatever_the_numbers_do(series: list[float | None]) -> None:
    life = Life()
    openness = []
    for value in series:
        life.sees(look(trouble=DOWN) if value is None else look(reading(value, at=life.now)))
        advanced = life.known.get("load|box/one|")
        openness.append(advanced.told if advanced is not None and advanced.state is not State.CLOSED else Level.FINE)
    for told in (life.told,):
        # Each change is between two states that people knew: as many ends as beginnings, or one less for each that is open.
        assert told.count("opened") - told.count("closed") == sum(
            one.state in (State.OPEN, State.RECOVERING) for one in life.known.values()
        )


@settings(max_examples=60, deadline=None)
@given(values, st.sets(st.sampled_from(list(Severity)), min_size=1))
def test_whoever_heard_of_something_hears_of_its_end_and_nobody_else(
    series: list[float | None], severities: set[Severity]
) -> None:
    life = Life()
    changes: list[Change] = []
    for value in [*series, *[1.0] * 100]:
        seen = look(trouble=DOWN) if value is None else look(reading(value, at=life.now))
        changes += life.sees(seen).changes
    for key in {change.finding.key for change in changes}:
        told = heard([one for one in changes if one.finding.key == key], *severities)
        assert not told or told[-1] == ChangeKind.CLOSED
        assert not told or told[0] != ChangeKind.CLOSED


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=288, max_size=288))
def test_a_day_of_flapping_is_told_a_few_times_and_not_a_hundred(series: list[bool]) -> None:
    life = Life()
    for beyond in series:
        life.load(10 if beyond else 1)
    # 10, 20, 40, 80 and then 160 quiet minutes are needed to close; REMEMBERED forgets after six quiet hours.
    assert life.told.count("opened") <= 4 + 24 * 60 / 160 + 24 * 60 / (REMEMBERED.total_seconds() / 60) + 1


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (look(metrics=("box.other",), sometimes=("box.load",)), "recovering"),  # there is nothing of it
        (look(metrics=("box.other", "box.load")), "open"),  # it should be there: nobody knows
        (look(metrics=("box.other",)), "closed"),  # nothing reads it any more
        (look(metrics=("box.other",), trouble=BROKEN), "open"),  # what was not read might have given it
    ],
)
def test_what_is_given_no_more_is_over_when_its_probe_says_so_or_is_gone(seen: Look, state: str) -> None:
    life = Life()
    life.load(7)
    life.sees(msgspec.structs.replace(seen, at=life.now))
    assert [str(one.state) for one in life.known.values() if one.rule == "load"] == [state]


def test_a_probe_that_failed_proves_nothing_by_what_it_does_not_give() -> None:
    life = Life()
    life.load(7)
    life.sees(look(sometimes=("box.load",), trouble=BROKEN, at=life.now))
    assert [str(one.state) for one in life.known.values() if one.rule == "load"] == ["open"]


def test_whom_nobody_looked_at_is_not_gone() -> None:
    """The task that looks at a system was killed: what was found of its targets is not over for that."""
    life = Life()
    life.load(10)
    for _ in range(4):
        life.sees(look(subject="box/main", probe="sweep", metrics=(), trouble=BROKEN, whole=True))
    finding = life.known["load|box/one|"]
    assert (finding.state, finding.verified) == (State.OPEN, False)
    assert "closed" not in life.told
    life.load(10)
    assert life.told.count("opened") == 2  # and is no news afterwards: the other one is that nobody looked


@pytest.mark.parametrize("rule", ["unread", "absent", "stale"])
def test_what_could_not_be_read_is_not_over_when_nothing_answers_any_more(rule: str) -> None:
    life = Life()
    fine = look(reading(1, "box.other", at=NOW), probe="other", metrics=("box.other",))
    seen = {
        "unread": look(trouble=BROKEN),
        "absent": look(),
        "stale": look(reading(1, at=NOW - timedelta(hours=1))),
    }[rule]
    life.sees(seen, msgspec.structs.replace(fine, at=life.now))
    (finding,) = life.known.values()
    assert (finding.rule, finding.state) == (rule, State.OPEN)
    for _ in range(4):
        life.sees(look(trouble=DOWN), msgspec.structs.replace(fine, readings=(), trouble=DOWN))
    assert life.known[finding.key].state is State.OPEN
    assert life.told == ["opened", "opened"]
    for _ in range(3):
        life.sees(look(reading(1, at=life.now)), look(reading(1, "box.other", at=life.now), probe="other"))
    assert life.told.count("closed") == 2


def test_a_system_that_is_down_has_not_come_back_because_nobody_can_ask_it() -> None:
    """Its connection was taken away meanwhile: no probe could even be opened."""
    life = Life()
    life.sees(look(trouble=DOWN))
    for _ in range(4):
        life.sees(look(probe="connection", metrics=(), trouble=BROKEN))
    assert life.states() == ["open", "open"]
    for _ in range(3):
        life.sees(look(trouble=BROKEN))  # it answers nonsense: but it answers
    assert life.known["unreachable|box/one|"].state is State.CLOSED


def test_a_rule_that_nothing_judges_is_not_told_again_and_again_while_a_probe_fails_at_times() -> None:
    life = Life(book("  typing-error:\n" + RULE.split("load:\n", 1)[1].replace("box.load", "box.laod")))
    for failing in (False, True, False, True, False):
        other = look(reading(1, "box.other", at=life.now), probe="other", metrics=("box.other",))
        broken = msgspec.structs.replace(other, readings=(), trouble=BROKEN)
        life.sees(look(reading(1, at=life.now)), broken if failing else other)
    assert [one.state for one in life.known.values() if one.rule == "unjudged"] == [State.OPEN]
    assert life.told == ["opened", "opened"]  # the other one is that the probe failed
    life.rules = book()
    life.load(1)
    assert "unjudged" not in [one.rule for one in life.known.values() if one.state is State.OPEN]


def test_what_was_found_of_a_node_is_not_over_when_the_node_dies() -> None:
    """Its disk filled until it died: it gives no reading of its disk any more, and the other nodes do."""
    rules = book(text=RULE.replace("box.load", "box.disk"))

    def ring(*nodes: tuple[str, float | None]) -> tuple[Look, Look]:
        up = [reading(used is not None, "box.node.up", at=life.now, node=node, rack="r1") for node, used in nodes]
        disks = [reading(used, "box.disk", at=life.now, node=node) for node, used in nodes if used is not None]
        return look(*up, probe="nodes", metrics=("box.node.up",)), look(*disks, metrics=("box.disk",))

    life = Life(rules)
    life.sees(*ring(("a", 10), ("b", 1)))
    for _ in range(4):
        life.sees(*ring(("a", None), ("b", 1)))
    finding = life.known["load|box/one|node=a"]
    assert (finding.state, finding.verified, life.told) == (State.OPEN, False, ["opened"])
    for _ in range(3):
        life.sees(*ring(("b", 1)))  # it was taken out of the ring
    assert life.told == ["opened", "closed"]


@pytest.mark.parametrize("off", [float("nan"), float("inf"), None])
def test_a_series_that_is_no_number_or_of_another_time_is_not_over_for_that(off: float | None) -> None:
    life = Life()
    life.sees(look(reading(10, at=life.now, disk="a"), reading(1, at=life.now, disk="b")))
    for _ in range(4):
        unclear = (
            reading(1, at=life.now - timedelta(days=1), disk="a")
            if off is None
            else reading(off, at=life.now, disk="a")
        )
        life.sees(look(unclear, reading(1, at=life.now, disk="b")))
    finding = life.known["load|box/one|disk=a"]
    assert (finding.state, finding.verified, life.told) == (State.OPEN, False, ["opened", "opened"])
