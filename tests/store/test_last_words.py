"""A later FAIL wins: over the reading of an object that backups share, over an older PASS, over who could not look since."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.contracts import Stop
from include.engine.errors import Corrupt
from include.engine.model import Entry, Manifest, ReadBack, Target, Verdict, Verification, backup_id, encode
from include.engine.store import damage
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.damage import Damage
from include.engine.store.expiry import plan_expiry
from include.engine.store.proven import LastWords
from include.engine.store.rereading import Trust, newest_readings
from include.engine.store.retention import Policy
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader
from include.engine.store.verifications import by_backup
from include.engine.store.verify import verify_backup
from include.engine.verbs import proofs
from include.engine.verbs.verify import LATELY
from tests.cli import paper
from tests.store.making import (
    EVENTS,
    MAIN,
    NOW,
    Told,
    a_backup,
    a_night,
    a_set,
    days_ago,
    memory_catalog,
    overwrite,
    verified,
)

WRITTEN = days_ago(20)


X = f"{EVENTS}/objects/x"


def said(days: float, *, read: str = "", wrong: str = "", verdict: Verdict | None = None) -> Verification:
    """What somebody found *days* ago about the object ``X``, whose digest should be what is named."""
    return Verification(
        target=EVENTS,
        backup=backup_id(days_ago(days)),
        at=days_ago(days),
        objects=1,
        bytes=1,
        verdict=verdict or (Verdict.FAIL if wrong else Verdict.PASS),
        read={X: ReadBack(sha256=read, modified=WRITTEN)} if read else {},
        wrong={X: wrong} if wrong else {},
    )


GOOD, BAD, MENDED = said(3, read="a"), said(2, wrong="a"), said(1, read="a")


@pytest.mark.parametrize(
    ("found", "read_at", "bad"),
    [
        ([GOOD], days_ago(3), False),
        ([GOOD, BAD], None, True),
        ([BAD, GOOD], None, True),
        ([GOOD, BAD, MENDED], days_ago(1), False),
        ([GOOD, said(3, wrong="a")], None, True),
        ([GOOD, said(2, wrong="b")], days_ago(3), False),
        ([GOOD, said(2, verdict=Verdict.UNVERIFIED)], days_ago(3), False),
    ],
    ids=[
        "read",
        "found wrong later",
        "in whatever order they come",
        "mended",
        "at the same time",
        "a manifest that names another digest is what is wrong",
        "who could not look takes nothing back",
    ],
)
def test_what_is_known_of_an_object(found: list[Verification], read_at: datetime | None, bad: bool) -> None:
    newest = newest_readings(found)
    assert newest.get(X, (None,))[0] == read_at
    catalog = memory_catalog()
    for one in found:
        catalog.record_verification(one)
    assert bool(Damage(catalog.read_back, EVENTS).of(naming(catalog, X, "a"))) is bad


def naming(catalog: Catalog, key: str, sha256: str) -> Manifest:
    """A backup that consists of one shared object."""
    return a_backup(catalog, EVENTS, objects={}, shared=[Entry(name="x", key=key, bytes=1, sha256=sha256)])


def after_reading_all(found: Iterable[Verification]) -> dict[tuple[str, str], Verification]:
    """What :class:`Damage` promises, by reading every verification there is."""
    wrong: dict[tuple[str, str], Verification] = {}
    for one in sorted(found, key=lambda one: one.at):
        for key, reading in one.read.items():
            wrong.pop((key, reading.sha256), None)
        wrong.update(dict.fromkeys(one.wrong.items(), one))
    return wrong


KEYS, DIGESTS = (X, f"{X}2", "elsewhere"), ("a", "b")
FINDINGS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(DIGESTS), max_size=2)


@given(st.lists(st.tuples(FINDINGS, FINDINGS, st.booleans(), st.booleans()), max_size=12))
@settings(deadline=None, max_examples=150)
def test_what_few_verifications_tell_of_damage_is_what_all_of_them_tell(
    drawn: list[tuple[dict[str, str], dict[str, str], bool, bool]],
) -> None:
    catalog, found = memory_catalog(), []
    for number, (read, wrong, could_look, of_before) in enumerate(drawn):
        one = msgspec.structs.replace(
            said(20 - number, verdict=Verdict.FAIL if wrong else Verdict.PASS if could_look else Verdict.UNVERIFIED),
            read={key: ReadBack(sha256=sha256, modified=WRITTEN) for key, sha256 in read.items()},
            wrong=wrong,
        )
        found.append(one)
        if of_before:  # an older Mainstay's name for it
            name = f"verifications/{EVENTS}/{one.backup}/{one.at:%Y%m%dT%H%M%S%fZ}.json"
            assert catalog.bucket.create(name, encode(one))
        else:
            catalog.record_verification(one)
    expected = after_reading_all(found)
    with patch.object(damage, "_AT_ONCE", 2):  # read in several steps
        known = Damage(catalog.read_back, EVENTS)
        for key, sha256 in itertools.product(KEYS[:2], DIGESTS):
            manifest = msgspec.structs.replace(EMPTY, entries=(Entry(name="x", key=key, bytes=1, sha256=sha256),))
            by = expected.get((key, sha256))
            assert known.of(manifest) == ({key: by} if by else {})


EMPTY = a_backup(memory_catalog(), EVENTS, objects={})


def verify(catalog: Catalog, manifest: Manifest, days: float, trust: Trust | None = LATELY) -> Verification:
    return verify_backup(
        catalog,
        VaultReader(catalog.bucket),
        manifest,
        progress=Told(),
        stop=Stop(),
        now=days_ago(days),
        trust=trust,
    )


class Shared:
    """Two nights of a cluster whose backups share one object, on a disk whose bits may rot."""

    def __init__(self, folder: Path) -> None:
        self.catalog = Catalog(Bucket.open(folder.as_uri()))
        (self.entry,) = [SharedFolder(self.catalog.bucket, EVENTS).put(b"rows " * 100)]
        self.file = folder / self.entry.key
        self.first, self.second = self.night(6), self.night(4)

    def night(self, days: float) -> Manifest:
        entries: list[Entry] = [self.entry]
        manifest = a_backup(self.catalog, EVENTS, days=days, objects={}, shared=entries)
        a_set(self.catalog, manifest, days=days)
        return manifest

    def rot(self) -> None:
        """Flip a bit, of which the store itself knows nothing: it lists the same size and the same time."""
        known = self.file.stat()
        content = bytearray(self.file.read_bytes())
        content[7] ^= 1
        self.file.write_bytes(content)
        os.utime(self.file, ns=(known.st_atime_ns, known.st_mtime_ns))


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


def test_an_object_that_was_found_rotten_is_read_again_by_every_backup_that_names_it(shared: Shared) -> None:
    assert verify(shared.catalog, shared.first, 6).verdict is Verdict.PASS
    shared.rot()
    assert verify(shared.catalog, shared.first, 5, trust=None).verdict is Verdict.FAIL
    found = verify(shared.catalog, shared.second, 4)
    assert (found.verdict, found.trusted_objects) == (Verdict.FAIL, 0)
    shared.rot()  # the same bit: as it was
    mended = verify(shared.catalog, shared.second, 3)
    assert (mended.verdict, mended.trusted_objects) == (Verdict.PASS, 0)
    assert verify(shared.catalog, shared.night(2), 2).trusted_objects == 1


def test_damage_that_was_found_with_one_backup_is_said_of_all_that_share_it(shared: Shared) -> None:
    for manifest, days in ((shared.first, 6.0), (shared.second, 4.0)):
        assert verify(shared.catalog, manifest, days).verdict is Verdict.PASS
    shared.rot()
    verify(shared.catalog, shared.first, 3, trust=None)

    last = LastWords(shared.catalog).of(EVENTS, shared.second.id)

    assert last is not None
    assert last.verdict is Verdict.FAIL
    assert last.problems == (
        f"{shared.entry.key} is damaged, as the verification of {shared.first.id} has found at 2015-11-20T12:00:00+00:00",
    )


def test_retention_keeps_an_older_set_when_the_newest_verified_one_was_found_to_share_damage(shared: Shared) -> None:
    whole = a_backup(shared.catalog, EVENTS, days=9, objects={"mine": b"x"})
    a_set(shared.catalog, whole, days=9)
    for manifest, days in ((whole, 9.0), (shared.first, 6.0), (shared.second, 4.0)):
        assert verify(shared.catalog, manifest, days).verdict is Verdict.PASS
    shared.night(1)
    policy = Policy(redundancy=1)
    assert whole.id not in plan_expiry(shared.catalog, policy, NOW).sets
    shared.rot()
    verify(shared.catalog, shared.first, 3, trust=None)

    plan = plan_expiry(shared.catalog, policy, NOW)

    assert plan.sets[whole.id] == ("the newest verified",)
    assert "the newest verified" in plan.backups[str(EVENTS)][whole.id]


def silence(shared: Shared, manifest: Manifest) -> str:
    """Make what was found last about a backup unreadable."""
    last = by_backup(shared.catalog.read_back.noted(EVENTS))[manifest.id][-1]
    overwrite(shared.catalog.bucket, last.key, b"{")
    return last.key


def test_nothing_is_believed_while_one_who_may_have_found_damage_cannot_be_heard(shared: Shared) -> None:
    assert verify(shared.catalog, shared.first, 6).verdict is Verdict.PASS
    shared.rot()
    assert verify(shared.catalog, shared.first, 5, trust=None).verdict is Verdict.FAIL
    silence(shared, shared.first)
    found = verify(shared.catalog, shared.second, 4)
    assert (found.verdict, found.trusted_objects) == (Verdict.FAIL, 0)


def test_what_was_read_before_an_unheard_word_is_unverified_until_it_is_read_again(shared: Shared) -> None:
    for manifest, days in ((shared.first, 6.0), (shared.second, 4.0)):
        assert verify(shared.catalog, manifest, days).verdict is Verdict.PASS
    shared.rot()
    verify(shared.catalog, shared.first, 3, trust=None)
    key = silence(shared, shared.first)

    last = LastWords(shared.catalog).of(EVENTS, shared.second.id)
    assert last is not None
    assert last.verdict is Verdict.UNVERIFIED
    (problem,) = last.problems
    assert problem.startswith(f"{key} cannot be read, and may have found what this backup shares damaged")
    shared.rot()  # the same bit: as it was
    verify(shared.catalog, shared.second, 2, trust=None)
    again = LastWords(shared.catalog).of(EVENTS, shared.second.id)
    assert again is not None
    assert again.verdict is Verdict.PASS


def test_retention_deletes_nothing_on_the_word_of_a_backup_that_an_unheard_one_may_be_about(shared: Shared) -> None:
    whole = a_backup(shared.catalog, EVENTS, days=9, objects={"mine": b"x"})
    a_set(shared.catalog, whole, days=9)
    for manifest, days in ((whole, 9.0), (shared.first, 6.0), (shared.second, 4.0)):
        assert verify(shared.catalog, manifest, days).verdict is Verdict.PASS
    shared.night(1)
    shared.rot()
    verify(shared.catalog, shared.first, 3, trust=None)
    key = silence(shared, shared.first)

    with pytest.raises(Corrupt, match=key):
        plan_expiry(shared.catalog, Policy(redundancy=1), NOW)


def test_a_fail_stays_one_when_the_store_was_away_since() -> None:
    catalog = paper.pipeline(paper.Paper()).catalog
    manifest = a_backup(catalog)
    assert LastWords(catalog).of(MAIN, manifest.id) is None
    told = {3: Verdict.PASS, 2: Verdict.FAIL, 1: Verdict.UNVERIFIED}
    for days, verdict in told.items():
        note(catalog, MAIN, manifest.id, days, verdict)
    last = LastWords(catalog).of(MAIN, manifest.id)
    assert last is not None
    assert (last.verdict, last.at) == (Verdict.FAIL, days_ago(2))
    note(catalog, MAIN, manifest.id, 0.5, Verdict.PASS)
    note(catalog, MAIN, manifest.id, 0.4, Verdict.UNVERIFIED)
    again = LastWords(catalog).of(MAIN, manifest.id)
    assert again is not None
    assert again.verdict is Verdict.UNVERIFIED  # not green either: it is what was seen last


def note(catalog: Catalog, target: Target, backup: str, days: float, verdict: Verdict) -> None:
    catalog.record_verification(
        Verification(target=target, backup=backup, at=days_ago(days), objects=1, bytes=1, verdict=verdict)
    )


def test_the_health_of_the_backups_is_not_green_while_an_older_one_is_known_to_be_bad() -> None:
    pipeline = paper.pipeline(paper.Paper())
    for days in (3, 2, 1):
        a_night(pipeline.catalog, days=days)
    oldest, *_, newest = pipeline.catalog.backups(MAIN)
    probe = proofs.of_target(MAIN, lambda: pipeline)[0]

    def seen() -> dict[str, float]:
        return {one.metric: one.value for one in probe.read(lambda: NOW, timeout=1)}

    verified(pipeline.catalog, oldest)
    verified(pipeline.catalog, newest)
    assert (seen()["backups.verified"], seen()["backups.unverified"]) == (1, 0)
    note(pipeline.catalog, MAIN, oldest.id, -0.1, Verdict.FAIL)
    assert (seen()["backups.verified"], seen()["backups.unverified"]) == (0, 0)
