"""The notes beside the checkpoint, seen from outside: who launched it when, what a person wishes, how a launch ended.

Each note is written once, create-only, under a number: of two launchers one wins, and the job itself stops when it is not the
newest.  Nothing is ever changed, so nothing can be half changed; and whoever loses all memory reads it here.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock, Connection
from include.engine.errors import Contended
from include.engine.store.bucket import Bucket
from include.engine.systems.spark.settings import Settings

FOLDER = "_mainstay"


class Launch(Struct, frozen=True, kw_only=True):
    """That somebody took the right to launch; what the engine called it is noted apart, after it did."""

    generation: int
    name: str
    at: float  # seconds since the epoch
    reason: str = ""


class Wish(Struct, frozen=True, kw_only=True):
    """What a person wishes: ``run``, ``stop`` at once, or ``drain``: stop after all that is there now."""

    action: str
    reason: str
    by: str
    at: float


class End(Struct, frozen=True, kw_only=True):
    """How a launch ended, in its own words."""

    kind: str  # stopped, drained, or a cause: failed, lost, damaged, recreated, table, unrepeatable
    reason: str
    at: float


class Page(Struct, frozen=True, kw_only=True):
    """That a person was called about a launch, as it was then.

    :param end: how it had ended; empty when it ran, or was killed, and ``unread`` when nobody could tell how far it was
    """

    generation: int
    end: str
    why: str
    at: float


class Topic(Struct, frozen=True, kw_only=True):
    """Which topic a flow's checkpoint is about; one that was made anew under the same name has another id.

    :param id: as Kafka's client in Java writes it
    """

    topic: str
    id: str

    @property
    def uuid(self) -> str:
        """The id as everybody else writes it."""
        return str(UUID(bytes=base64.urlsafe_b64decode(f"{self.id}==")))


class Journal:
    """The notes of one checkpoint."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    @classmethod
    def of(cls, settings: Settings, store: Connection | None) -> Journal:
        """The journal of a job's checkpoint."""
        return cls(Bucket.open(settings.checkpoint, store))

    def launches(self) -> list[Launch]:
        """Give all launches, the oldest first."""
        return [self._read(key, Launch) for key in self._keys("launches")]

    def newest(self) -> Launch | None:
        """Give the newest launch."""
        keys = self._keys("launches")
        return self._read(keys[-1], Launch) if keys else None

    def launch(self, generation: int) -> Launch | None:
        """Give one launch; None when there is none of this number."""
        found: Launch | None = self._note("launches", generation, Launch)
        return found

    def recent(self, since: float) -> list[Launch]:
        """Give the launches after *since*, the oldest first, reading no more of them than needed."""
        found: list[Launch] = []
        for key in reversed(self._keys("launches")):
            launch = self._read(key, Launch)
            if launch.at < since:
                break
            found.insert(0, launch)
        return found

    def claim(self, generation: int, name: str, *, reason: str, clock: Clock) -> Launch:
        """Take the right to launch.

        :raises Contended: when somebody else took it
        """
        launch = Launch(generation=generation, name=name, at=clock().timestamp(), reason=reason)
        if not self._create("launches", generation, launch):
            raise Contended(f"{name} is being launched by somebody else", hint="look again in a moment")
        return launch

    def remember(self, generation: int, handle: str) -> None:
        """Note what the engine called a launch."""
        self._create("handles", generation, {"handle": handle, "at": time.time()})

    def handle(self, generation: int) -> str | None:
        """Give what the engine called a launch; None when nobody lived to write it down."""
        found = self._note("handles", generation, dict[str, Any])
        return str(found["handle"]) if found else None

    def run(self, generation: int) -> Mapping[str, Any] | None:
        """Give what a launch found when it began: application, page, flows; None when it has not begun."""
        found: Mapping[str, Any] | None = self._note("runs", generation, dict[str, Any])
        return found

    def end(self, generation: int) -> End | None:
        """Give how a launch ended; None when it runs, or was killed."""
        found: End | None = self._note("ends", generation, End)
        return found

    def facts(self) -> Mapping[str, Any]:
        """Give what the newest launch that began found of its flows: topic, table, key, whether a replay is the same."""
        keys = self._keys("runs")
        found = self._read(keys[-1], dict[str, Any]).get("flows", {}) if keys else {}
        return dict(found)

    def topic(self, flow: str) -> Topic | None:
        """Give the topic that a flow's checkpoint is about; None before the first launch."""
        key = self.topic_key(flow)
        return self._read(key, Topic) if key in self._keys("flows") else None

    @staticmethod
    def topic_key(flow: str) -> str:
        """Name the note of :meth:`topic` in the checkpoint."""
        return f"{FOLDER}/flows/{flow}.json"

    def wish(self) -> Wish:
        """Give what is wished; to run, when nobody ever said anything."""
        keys = self._keys("wishes")
        return self._read(keys[-1], Wish) if keys else Wish(action="run", reason="", by="", at=0.0)

    def say(self, action: str, *, reason: str, by: str, clock: Clock) -> Wish:
        """Note a wish.

        :raises Contended: when another one was noted in the same moment
        """
        keys = self._keys("wishes")
        number = _number(keys[-1]) + 1 if keys else 1
        wish = Wish(action=action, reason=reason, by=by, at=clock().timestamp())
        if not self._create("wishes", number, wish):
            raise Contended("somebody else has wished something in this moment", hint="look, and say it again")
        return wish

    def call(self, generation: int, *, end: str, why: str, clock: Clock) -> None:
        """Note that a person was called; when somebody else has called in this moment, it is noted already."""
        keys = self._keys("pages")
        number = _number(keys[-1]) + 1 if keys else 1
        self._create("pages", number, Page(generation=generation, end=end, why=why, at=clock().timestamp()))

    def page(self) -> Page | None:
        """Give the newest call for a person."""
        keys = self._keys("pages")
        return self._read(keys[-1], Page) if keys else None

    def _keys(self, kind: str) -> list[str]:
        found = (one.key for one in self.bucket.list(f"{FOLDER}/{kind}"))
        # Hadoop writes a hidden checksum beside each file of a directory.
        return sorted(key for key in found if key.endswith(".json") and not key.rsplit("/", 1)[1].startswith("."))

    def _create(self, kind: str, number: int, document: object) -> bool:
        return self.bucket.create(f"{FOLDER}/{kind}/{number:06d}.json", msgspec.json.encode(document))

    def _note(self, kind: str, number: int, form: Any) -> Any:
        key = f"{FOLDER}/{kind}/{number:06d}.json"
        return self._read(key, form) if key in self._keys(kind) else None

    def _read(self, key: str, form: Any) -> Any:
        return msgspec.json.decode(self.bucket.read(key), type=form)


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[1].partition(".")[0])
