"""Many probes at once: what is dead costs its own time-out, and what raises hides no other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.engine.contracts import Clock
from include.engine.errors import Unreachable
from include.engine.health.findings import verdict_of
from include.engine.health.history import History
from include.engine.model import Reading, Verdict
from include.engine.verbs import sweep
from include.engine.verbs.looking import Asked, look_at
from include.engine.verbs.sweep import HISTORY, Watch
from tests.health.making import SETTLE, Life, book


def clock() -> datetime:
    return datetime.now(UTC)


class Scripted:
    """A probe that does what a test says."""

    name = "load"
    source = "the load"

    def __init__(self, does: Callable[[], float]) -> None:
        self.metrics: Sequence[str] = ("box.load",)
        self._does = does

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        return [Reading(metric="box.load", value=self._does(), unit="1", at=clock())]


def fine() -> float:
    time.sleep(0.005)
    return 1.0


PROBES = 8  # of one target, as a Cassandra has


def test_200_targets_of_which_20_never_answer_take_little_longer_than_one_time_out() -> None:
    never = threading.Event()

    def dead() -> float:
        never.wait()
        return 0.0

    def everybody(tenth: Callable[[], float]) -> list[Asked]:
        return [
            Asked(f"box/{number}", Scripted(tenth if number % 10 == 0 else fine))
            for number in range(200)
            for _ in range(PROBES)
        ]

    asked, timeout = everybody(dead), 2.0
    began = time.monotonic()
    look_at(everybody(fine), clock=clock, timeout=60.0)
    healthy, began = time.monotonic() - began, time.monotonic()  # what so many take on this machine, as busy as it is
    looks = look_at(asked, clock=clock, timeout=timeout)
    took = time.monotonic() - began
    never.set()
    assert took < 3 * healthy + timeout + 4  # with the time-out that ships, 10 s, less than 15
    assert [look.subject for look in looks] == [one.subject for one in asked]
    silent = [look.subject for look in looks if look.trouble]
    assert silent == [f"box/{number}" for number in range(0, 200, 10) for _ in range(PROBES)]
    assert all(look.trouble is None or look.trouble.silent for look in looks)


def test_a_target_of_which_one_probe_is_refused_is_asked_for_the_rest() -> None:
    def refused() -> float:
        raise Unreachable("its page does not answer", hint="start it")

    asked = [Asked("box/0", Scripted(work)) for work in (refused, fine, refused, fine)]
    looks = look_at(asked, clock=clock, timeout=5.0, width=1)
    assert [look.trouble is None for look in looks] == [False, True, False, True]


def test_more_dead_ones_than_there_are_places_do_not_keep_the_others_out() -> None:
    never = threading.Event()

    def dead() -> float:
        never.wait()
        return 0.0

    asked = [Asked(f"box/{number}", Scripted(dead if number < 8 else fine)) for number in range(16)]
    looks = look_at(asked, clock=clock, timeout=0.2, width=4)
    never.set()
    assert [look.trouble is None for look in looks] == [False] * 8 + [True] * 8


def test_whatever_a_probe_raises_is_its_look_and_nothing_else() -> None:
    def raising(error: BaseException) -> Callable[[], float]:
        def work() -> float:
            raise error

        return work

    errors: list[BaseException] = [
        ValueError("nonsense"),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        Unreachable("it is down", hint="start it"),
    ]
    asked = [Asked(f"box/{number}", Scripted(raising(error))) for number, error in enumerate(errors)]
    looks = look_at([*asked, Asked("box/fine", Scripted(fine))], clock=clock, timeout=5)
    kinds = [look.trouble.kind if look.trouble else "" for look in looks]
    assert kinds == ["ValueError", "SystemExit", "KeyboardInterrupt", "MemoryError", "Unreachable", ""]


def watch(tmp_path: Path, *probes: Scripted, histories: Sequence[Callable[[], History]] | None = None) -> Watch:
    """What sweeps these probes."""
    asked = [Asked(f"box/{number}", probe) for number, probe in enumerate(probes)]
    return Watch(
        systems=["box"],
        asked=lambda _system: asked,
        book=book(),
        limits=lambda _name, _subject: None,
        histories=histories or [lambda: History.in_file(tmp_path / "h.sqlite"), lambda: History.in_file(None)],
        timeout=SETTLE,
        settle=SETTLE,
        team="ops",
    )


def swept(watched: Watch) -> sweep.SweepReport:
    looks = sweep.look(watched, ["box"], clock=clock)
    report, _ = sweep.conclude(watched, looks, ["box"], clock=clock, seconds=0.1)
    return report


def test_a_quiet_sweep_has_no_finding(tmp_path: Path) -> None:
    report = swept(watch(tmp_path, Scripted(fine)))
    assert report.findings == ()
    assert report.verdict is Verdict.PASS


def test_without_its_history_a_sweep_still_judges_and_remembers_in_a_file(tmp_path: Path) -> None:
    def gone() -> History:
        raise Unreachable("the history is gone", hint="start it")

    values = itertools.count(10)
    watched = watch(
        tmp_path,
        Scripted(lambda: float(next(values))),
        histories=[gone, lambda: History.in_file(tmp_path / "h.sqlite"), lambda: History.in_file(None)],
    )
    first, second = swept(watched), swept(watched)
    assert first.verdict is Verdict.FAIL
    assert {one.subject for one in first.findings} == {HISTORY, "box/0"}
    assert len(first.changes) == 2
    assert second.changes == ()
    assert "h.sqlite" in second.history


def test_a_history_that_answers_again_tells_the_end_of_what_was_found_meanwhile(tmp_path: Path) -> None:
    gone = True
    value = 10.0

    def best() -> History:
        if gone:
            raise Unreachable("the history is gone", hint="start it")
        return History.in_file(tmp_path / "best.sqlite")

    def other() -> History:
        return History.in_file(tmp_path / "fallback.sqlite")

    watched = replace(
        watch(tmp_path, Scripted(lambda: value), histories=[best, other, lambda: History.in_file(None)]),
        left_behind=other,
        settle=timedelta(0),
    )

    def told() -> set[tuple[str, str]]:
        return {(str(change.kind), change.finding.subject) for change in swept(watched).changes}

    assert told() == {("opened", HISTORY), ("opened", "box/0")}
    gone = False
    assert told() == {("closed", HISTORY)}  # and what is still wrong is told by nobody again
    assert other().alive() == []
    value = 1.0
    assert told() == {("closed", "box/0")}
    gone, value = True, 1.0
    assert told() == {("opened", HISTORY)}  # the next outage is told as the first was
    gone = False
    assert told() == {("closed", HISTORY)}
    assert told() == set()


def test_a_full_disk_leaves_memory_and_everything_is_still_judged(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.write_text("a file where a directory should be")
    watched = watch(
        tmp_path,
        Scripted(lambda: 10.0),
        histories=[lambda: History.in_file(full / "h.sqlite"), lambda: History.in_file(None)],
    )
    report = swept(watched)
    assert report.verdict is Verdict.FAIL
    assert {one.subject for one in report.findings} == {HISTORY, "box/0"}
    assert verdict_of(report.findings, looked=True) is Verdict.FAIL


def test_a_system_that_nobody_looked_at_is_not_green(tmp_path: Path) -> None:
    watched = watch(tmp_path, Scripted(fine))
    report, _ = sweep.conclude(watched, [], ["box"], clock=clock, seconds=0.0)
    assert report.verdict is Verdict.UNVERIFIED
    assert [one.subject for one in report.findings] == ["box/main"]


def test_a_task_that_was_killed_closes_nothing_of_what_it_should_have_looked_at(tmp_path: Path) -> None:
    watched = watch(tmp_path, Scripted(lambda: 10.0))
    assert [str(one.kind) for one in swept(watched).changes] == ["opened"]
    report, _ = sweep.conclude(watched, [], ["box"], clock=clock, seconds=0.0)
    found = {one.subject: one for one in report.findings}
    assert (found["box/0"].state, found["box/0"].verified) == ("open", False)
    assert [(str(one.kind), one.finding.subject) for one in report.changes] == [("opened", "box/main")]


def test_what_was_told_from_the_other_history_is_told_to_be_over_though_it_was_only_suspected_here() -> None:
    life = Life(book("    for: 10m\n"))
    life.load(10)
    (suspected,) = life.known.values()
    for _ in range(2):
        life.load(10)
    (opened,) = life.known.values()
    assert (suspected.state, opened.state) == ("pending", "open")
    assert sweep.taken_over({suspected.key: suspected}, {opened.key: opened}) == {opened.key: opened}
    assert sweep.taken_over({opened.key: opened}, {suspected.key: suspected}) == {opened.key: opened}
