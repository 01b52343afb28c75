"""Backups, deletions and sweeps of one target at once, in any order, each killed anywhere: no backup ever lacks an object."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from include.engine.errors import Contended
from include.engine.model import Cut, Entry, Kind, Manifest, SourceIdentity, backup_id
from include.engine.store import documents
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.lease import CLOCK_TOLERANCE, hold
from include.engine.store.shared import SharedFolder
from include.engine.store.stores import open_store
from include.engine.store.sweep import ORPHAN_AGE, sweep
from tests.store.making import DAY, EVENTS

_LEASE = timedelta(hours=12)
_CONTENTS = tuple(b"sstable %d" % n for n in range(3))

Item = TypeVar("Item")
Result = TypeVar("Result")


class Killed(BaseException):
    """SIGKILL: nothing of the process runs after it."""


class Interleaved(Bucket):
    """A bucket whose user is interrupted before everything that it asks."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def _asked(self, question: Callable[[], Result], key: str) -> Result:
        self.meanwhile()
        return super()._asked(question, key)

    def delete_allowed(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(key for key, gone in map(self._delete, keys) if not gone)


def in_order(names: Sequence[Item], one: Callable[[Item], Result]) -> list[Result]:
    """Read one document after the other, on this thread: only here can anything be drawn, and be drawn again."""
    return [one(name) for name in names]


class World:
    """One bucket, and all that happens to it.  Its clock is days ahead of the store's: no age protects what is new."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"
        self.draw = draw
        self.bucket = Bucket.open(self.url)
        self.catalog = Catalog(self.bucket)
        self.time = datetime.now(UTC).replace(microsecond=0) + 10 * DAY
        self.running: list[tuple[Iterator[None], datetime]] = []
        self.graves: list[
            Any
        ] = []  # generators: one that Python collects gives its lease back, which no dead process does
        self.begun = 0
        for content in _CONTENTS:  # what a backup that is no more has left
            SharedFolder(self.bucket, EVENTS).put(content)

    def clock(self) -> datetime:
        return self.time

    def begin_backup(self) -> None:
        self.begun += 1
        name = backup_id(datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=self.begun))
        contents = self.draw(st.sets(st.sampled_from(_CONTENTS), min_size=1))
        self.running.append((self._backup(name, sorted(contents)), self.time + _LEASE))
        self.graves.append(self.running[-1][0])

    def _backup(self, name: str, contents: list[bytes]) -> Iterator[None]:
        held = hold(
            self.bucket, f"{self.catalog.folder(EVENTS, name)}/a1", until=self.time + _LEASE, clock=self.clock
        )  # fmt: skip
        self.graves.append(held.gen)
        try:
            held.__enter__()
        except Contended:
            return
        yield
        shared = SharedFolder(self.bucket, EVENTS)
        there = shared.stored()
        yield
        entries = []
        for content in contents:
            sha256 = hashlib.sha256(content).hexdigest()
            if there.get(sha256) != len(content):
                shared.put(content)
                yield
            entries.append(Entry(name=sha256, key=shared.key(sha256), bytes=len(content), sha256=sha256))
        at = self.time
        self.catalog.commit(
            Manifest(
                id=name,
                target=EVENTS,
                kind=Kind.FULL,
                started=at,
                finished=at,
                recoverable_from=at,
                recoverable_to=at,
                cut=Cut(at=at, position="tag"),
                entries=tuple(entries),
                source=SourceIdentity(identity="7", version="5.0.9"),
            )
        )
        yield
        held.__exit__(None, None, None)

    def go_on(self) -> None:
        """Let one of the backups that run do some steps, or die."""
        if not self.running:
            return
        chosen = self.running[self.draw(st.integers(0, len(self.running) - 1))]
        for _ in range(self.draw(st.integers(1, 8))):
            if next(chosen[0], self) is self:
                self.running.remove(chosen)
                return
        if self.draw(st.integers(0, 9)) == 9:
            self.running.remove(chosen)

    def delete(self) -> None:
        known = self.bucket.folders(f"{EVENTS}/backups")
        if known:
            self.catalog.delete(EVENTS, self.draw(st.sampled_from(known)))

    def pass_time(self) -> None:
        """Hours go by; a backup that has taken as long as its lease is ended, as its deadline does."""
        self.time += timedelta(hours=self.draw(st.integers(1, 30)))
        self.running = [one for one in self.running if one[1] > self.time]

    def meanwhile(self) -> None:
        """What others do between two requests of a sweep; now and then the sweep is killed."""
        for what in self.draw(st.lists(st.sampled_from("kbbdgggg"), max_size=6)):
            if what == "k":
                raise Killed
            {"b": self.begin_backup, "d": self.delete, "g": self.go_on}[what]()
        self.check()

    def sweep(self) -> None:
        bucket = Interleaved(open_store(self.url, None), self.url)
        bucket.meanwhile = self.meanwhile
        with suppress(Killed, Contended):
            sweep(Catalog(bucket), EVENTS, clock=self.clock, dry_run=False)

    def bury(self) -> None:
        """End what was killed.  Collected later, it would ask the bucket in the middle of anything, even of starting a thread."""
        for one in self.graves:
            one.close()

    def check(self) -> None:
        there = {found.key for found in self.bucket.list(f"{EVENTS}/objects")}
        for manifest in self.catalog.backups(EVENTS):
            assert {entry.key for entry in manifest.entries} <= there, f"{manifest.id} lacks objects"


# Not shrunk when it fails: that takes minutes, and the steps are few.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_no_backup_ever_lacks_an_object_and_what_nobody_names_goes_in_the_end(data: st.DataObject) -> None:
    world = World(data.draw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "each", in_order)
        try:
            happen(world)
        finally:
            world.bury()


def happen(world: World) -> None:
    steps = (world.begin_backup, world.go_on, world.go_on, world.go_on, world.delete, world.pass_time, world.sweep)
    for step in world.draw(st.lists(st.sampled_from(range(len(steps))), min_size=5, max_size=25)):
        steps[step]()
        world.check()
    world.running = []
    world.time += ORPHAN_AGE + _LEASE + CLOCK_TOLERANCE + DAY
    sweep(world.catalog, EVENTS, clock=world.clock, dry_run=False)
    world.check()
    named = {entry.key for manifest in world.catalog.backups(EVENTS) for entry in manifest.entries}
    assert {found.key for found in world.bucket.list(f"{EVENTS}/objects")} == named
