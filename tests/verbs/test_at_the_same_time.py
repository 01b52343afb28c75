"""What runs at the same time does not harm: retention beside a backup, a restore and a drill, and two runs of one backup."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest

from include.engine.cli.clock import now
from include.engine.contracts import CopyJob, Rehearsal, RestoreJob, Stop
from include.engine.errors import Contended, NotFound, Unauthorized
from include.engine.model import (
    DestinationKind,
    Kind,
    Manifest,
    Restored,
    System,
    Target,
    Verdict,
    Verification,
    encode,
)
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog, Survey
from include.engine.store.expiry import apply, plan_expiry
from include.engine.store.lease import LEASE, Lease, hold, live_leases
from include.engine.verbs import backup, drill, restore, restore_set, retention
from include.engine.verbs.pipeline import Pipeline, Terms
from include.engine.verbs.wishes import Wishes
from tests.cli.paper import TARGET, Paper, past, pipeline
from tests.estate import Quiet

SET, OLDER = "20261123T020000Z", "20261122T020000Z"
REASON = "checking what came before"


def take(made: Pipeline, set_id: str, *, progress: Quiet | None = None) -> Manifest:
    backup.freeze(made, set_id, [TARGET], clock=now)
    taken = backup.copy(made, set_id, TARGET, progress=progress or Quiet(), stop=Stop(), clock=now)
    backup.seal(made, set_id, clock=now)
    return taken


# a backup and retention ----------------------------------------------------------------------------------------------


def test_what_a_backup_may_build_on_is_read_when_expiry_already_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = pipeline(Paper())
    held: list[int] = []
    survey = Catalog.survey

    def watched(catalog: Catalog, target: Target, *, newest: int | None = None) -> Survey:
        held.append(len(live_leases(catalog.bucket, TARGET, now())))
        return survey(catalog, target, newest=newest)

    monkeypatch.setattr(Catalog, "survey", watched)
    take(made, SET)
    assert held[0] == 1


class Increment(Paper):
    """A target whose second backup builds on the first, which somebody removes while the second is taken."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        super().__init__()
        self.catalog = catalog

    def copy(self, job: CopyJob) -> Manifest:
        made = super().copy(job)
        if not job.history:
            return made
        if self.catalog is not None:
            self.catalog.delete(TARGET, job.history[-1].id)
        return msgspec.structs.replace(made, kind=Kind.INCREMENTAL, parent=job.history[-1].id)


def test_a_backup_whose_parent_was_removed_meanwhile_never_begins_to_count_and_its_retry_does() -> None:
    paper = Increment()
    made = pipeline(paper)
    take(made, OLDER)
    paper.catalog = made.catalog
    with pytest.raises(Contended, match=f"{OLDER}, which the backup {SET} of postgres/main builds on, was removed"):
        take(made, SET)
    assert made.catalog.backups(TARGET) == []
    assert take(made, SET).parent is None


def test_a_source_is_told_which_of_what_it_may_build_on_was_found_damaged() -> None:
    paper = Increment()
    made = pipeline(paper)
    for set_id in (OLDER, SET):
        take(made, set_id)
    told: list[frozenset[str]] = []

    def copy(job: CopyJob) -> Manifest:
        told.append(job.doubted)
        return Paper.copy(paper, job)

    paper.copy = copy  # type: ignore[method-assign]
    for number, verdict in enumerate((Verdict.PASS, Verdict.FAIL)):
        made.catalog.record_verification(
            Verification(target=TARGET, backup=OLDER, at=past(2 - number), objects=1, bytes=1, verdict=verdict)
        )
        take(made, f"2026112{4 + number}T020000Z")
    assert told == [
        frozenset(),
        frozenset(),
    ]  # the first of the two stands alone, and is what the second would build on
    made.catalog.delete(TARGET, "20261125T020000Z")
    made.catalog.delete(TARGET, "20261124T020000Z")
    take(made, "20261126T020000Z")
    assert told[-1] == {OLDER}


# a restore and retention ---------------------------------------------------------------------------------------------


class Slow(Paper):
    """A target that runs retention while it is restored."""

    made: Pipeline
    kept: tuple[str, ...] = ()

    def restore(self, job: RestoreJob) -> Restored:
        self._expire()
        return super().restore(job)

    @contextmanager
    def rehearse(self, job: RestoreJob) -> Iterator[Rehearsal]:
        self._expire()
        with super().rehearse(job) as found:
            yield found

    def _expire(self) -> None:
        plan = plan_expiry(self.made.catalog, self.made.policy, now())
        assert plan.delete == ()
        self.kept = plan.cannot


@pytest.fixture
def slow() -> Slow:
    paper = Slow()
    paper.made = pipeline(paper)
    for day in (19, 20, 21):
        take(paper.made, f"202611{day}T020000Z")
    return paper


def unwanted(paper: Slow) -> list[str]:
    return [one.backup for one in plan_expiry(paper.made.catalog, paper.made.policy, now()).delete]


def test_nothing_of_a_target_expires_while_it_is_restored(slow: Slow) -> None:
    old = unwanted(slow)[-1]
    plan = restore.plan(slow.made, TARGET, backup=old, destination=DestinationKind.SANDBOX)
    restore.restore(slow.made, plan, reason=REASON, by="me", progress=Quiet(), stop=Stop(), clock=now)
    assert f"{TARGET}/backups/{old}/reading-" in slow.kept[0]
    assert unwanted(slow) == ["20261120T020000Z", "20261119T020000Z"]


def test_nothing_of_a_target_expires_while_it_is_drilled(slow: Slow) -> None:
    exercise = drill.choose(slow.made, set_id="20261119T020000Z")
    drill.drill(slow.made, exercise, drill_id=SET, progress=Quiet(), stop=Stop(), clock=now)
    assert "reading-" in slow.kept[0]
    assert live_leases(slow.made.catalog.bucket, TARGET, now()) == {}


def test_a_backup_that_expired_since_its_restore_was_planned_is_told_before_anything_is_touched(slow: Slow) -> None:
    old = unwanted(slow)[-1]
    plan = restore.plan(slow.made, TARGET, backup=old, destination=DestinationKind.SERVER, server="standby")
    assert retention.expire(slow.made, dry_run=False, clock=now).done is not None
    with pytest.raises(NotFound, match=f"has no backup {old}"):
        restore.restore(slow.made, plan, reason=REASON, by="me", progress=Quiet(), stop=Stop(), clock=now)
    assert slow.restored == []
    [record] = slow.made.catalog.restores()
    assert record.verdict is Verdict.FAIL


class Both:
    """Finds two targets."""

    def __init__(self, *papers: Paper) -> None:
        self.papers = {paper.target: paper for paper in papers}

    def source(self, target: Target) -> Paper:
        return self.papers[target]

    engine = source

    def archive(self, target: Target) -> None:
        return None


@pytest.mark.parametrize("kept", [False, True], ids=["the set has gone", "somebody has removed a backup"])
def test_a_set_of_which_a_part_has_gone_since_it_was_planned_is_not_restored_in_part(kept: bool) -> None:
    one, other = Paper(), Paper(target=Target(System.POSTGRES, "other"))
    made = replace(pipeline(one), terms={TARGET: Terms(), other.target: Terms()}, lookup=Both(one, other))

    def taken(set_id: str, *targets: Target) -> None:
        backup.freeze(made, set_id, targets, clock=now)
        for target in targets:
            backup.copy(made, set_id, target, progress=Quiet(), stop=Stop(), clock=now)
        backup.seal(made, set_id, clock=now)

    taken(OLDER, TARGET, other.target)
    plan = restore_set.plan(made, made.catalog.set(OLDER), Wishes(destination=DestinationKind.SANDBOX))
    if kept:
        made.catalog.delete(other.target, OLDER)
    else:  # a later set leaves out one target, whose own history keeps what it has
        taken(SET, other.target)
        assert retention.expire(made, dry_run=False, clock=now).done is not None
        assert [found.id for found in made.catalog.backups(TARGET)] == [OLDER]
    with pytest.raises(NotFound, match=OLDER):
        restore_set.restore_set(made, plan, reason=REASON, by="me", progress=Quiet(), stop=Stop(), clock=now)
    assert one.restored == []


def test_a_restore_with_a_key_pair_that_can_only_read_says_so_and_goes_on(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = restore.plan(slow.made, TARGET, destination=DestinationKind.SANDBOX)

    def refuse(*_: object) -> bool:
        raise Unauthorized("the object store refused the request", hint="check its rights")

    monkeypatch.setattr(Bucket, "create", refuse)
    monkeypatch.setattr(Slow, "_expire", lambda _: None)
    quiet = Quiet()
    done = restore.restore(slow.made, plan, reason=REASON, by="me", progress=quiet, stop=Stop(), clock=now)
    assert done.verdict is Verdict.PASS
    assert "do not run retention meanwhile" in quiet.said[0]


# two runs of one backup ----------------------------------------------------------------------------------------------


def another(bucket: Bucket, pid: int, host: str = "") -> None:
    """Let another process hold an attempt at the backup."""
    folder = f"{TARGET}/backups/{SET}/a1"
    lease = Lease(folder=folder, host=host or socket.gethostname(), pid=pid, started=past(1), expires_at=now())
    assert bucket.create(f"{folder}/{LEASE}", encode(lease))


def test_a_server_on_which_another_run_of_the_set_still_works_is_left_to_that_run() -> None:
    paper = Paper()
    made = pipeline(paper)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        another(made.catalog.bucket, other.pid)
        assert backup.release(made, SET, [TARGET]) == (TARGET,)
        assert paper.released == []
        other.kill()
    assert backup.release(made, SET, [TARGET]) == ()
    assert paper.released == [SET]


def test_what_a_run_of_another_machine_has_left_is_cleared() -> None:
    paper = Paper()
    made = pipeline(paper)
    another(made.catalog.bucket, 1, "elsewhere")
    assert backup.release(made, SET, [TARGET]) == ()


def test_our_own_attempt_and_who_reads_the_backup_keep_nobody_from_clearing_the_server() -> None:
    paper = Paper()
    made = pipeline(paper)
    bucket = made.catalog.bucket
    with (
        hold(bucket, f"{TARGET}/backups/{SET}/mine", until=now(), clock=now),
        hold(bucket, f"{TARGET}/backups/{SET}/reading-1", until=now(), clock=now),
    ):
        assert backup.release(made, SET, [TARGET]) == ()
    assert paper.released == [SET]


def test_a_store_that_is_away_keeps_nobody_from_clearing_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper()
    made = pipeline(paper)

    def away(*_: object) -> Iterator[object]:
        raise Unauthorized("the object store is away", hint="wait")

    monkeypatch.setattr(Bucket, "list", away)
    assert backup.release(made, SET, [TARGET]) == ()
    assert paper.released == [SET]


def test_two_expiries_at_once_do_not_fail_over_a_set_that_the_other_has_removed(slow: Slow) -> None:
    plan = plan_expiry(slow.made.catalog, slow.made.policy, now())
    find, gone = Catalog.find_set, plan.delete_sets[0]

    def racing(catalog: Catalog, set_id: str) -> object:
        # The look is that of the deed: the other expiry was quicker.
        return None if set_id == gone else find(catalog, set_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "find_set", racing)
        done = apply(slow.made.catalog, plan)
    assert gone not in done.sets
    assert {one.backup for one in done.backups} == {"20261120T020000Z", "20261119T020000Z"}
