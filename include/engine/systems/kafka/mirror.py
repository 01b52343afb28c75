"""A mirror of topics on another cluster, by MirrorMaker 2 on Kafka Connect (see ``contracts.Mirror``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import Struct

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import MainstayError, Misconfigured, NotFound, TransientError
from include.engine.inventory import TargetSettings
from include.engine.mirroring import MirrorPlan, MirrorProgress
from include.engine.model import Check, Target, Verdict
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.caught_up import PROBED, Lag, lags, positions
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, open_admin
from include.engine.systems.kafka.connect import Connect
from include.engine.systems.kafka.cut import OWN_GROUPS
from include.engine.systems.kafka.settings import Mirror as MirrorSettings
from include.engine.systems.kafka.settings import Settings, matches
from include.engine.systems.kafka.topology import connector_name, desired, diff, mirrored, risks
from include.engine.systems.kafka.translate import Found, Pair, Side, nearest, read_pairs, translate

SAMPLE = 500  # records at the end of every partition that are compared


class MirrorCut(Struct, frozen=True, kw_only=True):
    """What the source had when it was asked: the mirror is compared with this, while the source goes on."""

    at: datetime
    low: dict[str, list[int]]
    high: dict[str, list[int]]

    def ends(self) -> dict[TP, int]:
        """Give each partition's end."""
        return {TP(topic, p): end for topic, found in self.high.items() for p, end in enumerate(found)}

    def lows(self) -> dict[TP, int]:
        """Give each partition's beginning."""
        return {TP(topic, p): low for topic, found in self.low.items() for p, low in enumerate(found)}


def open_mirror(target: Target, settings: TargetSettings, name: str, connections: Connections) -> KafkaMirror:
    """Open a declared mirror of *target*.  Asks nobody for anything yet.

    :raises NotFound: when the inventory declares no such mirror
    """
    assert isinstance(settings, Settings)
    declared = settings.mirrors.get(name)
    if declared is None:
        known = ", ".join(settings.mirrors) or "none"
        raise NotFound(f"{target} has no mirror {name}", hint=f"the inventory declares: {known}")
    return KafkaMirror(
        name,
        declared,
        source=connections.get(settings.connection),
        target=connections.get(declared.to),
        connect=connections.get(declared.connect),
    )


class KafkaMirror:
    """One declared mirror."""

    def __init__(
        self, name: str, settings: MirrorSettings, *, source: Connection, target: Connection, connect: Connection
    ) -> None:
        self.name = name
        self.settings = settings
        self._source = source
        self._target = target
        self._connect = Connect(connect)
        self._missing_before: list[Lag] = []
        self._wanted = desired(name, settings, librdkafka_settings(source), librdkafka_settings(target))

    def plan(self) -> MirrorPlan:
        """Say what would change, and what Connect thinks of it."""
        with open_admin(self._source) as admin:
            topics = sorted(mirrored(admin, self.settings))
        actual = {name: self._connect.config(name) for name in self._connect.names() if name.startswith(self._prefix)}
        config = self._wanted[connector_name(self.name)]
        return MirrorPlan(
            mirror=self.name,
            changes=tuple(map(str, diff(self._wanted, actual))),
            topics=tuple(topics),
            problems=tuple(
                problem for name, wanted in self._wanted.items() for problem in self._connect.validate(name, wanted)
            ),
            warnings=tuple(risks(config, topics)),
        )

    def apply(self) -> None:
        """Make the connectors what was declared, and start those that are stopped."""
        for name, config in self._wanted.items():
            self._connect.put(name, config)
            self._connect.resume(name)
        for name in self._connect.names():
            if name.startswith(self._prefix) and name not in self._wanted:
                self._connect.delete(name)

    def cut(self, clock: Clock) -> dict[str, object]:
        """Read the source's ends as of now."""
        with open_admin(self._source) as admin:
            topics = mirrored(admin, self.settings)
            partitions = [TP(name, p) for name, count in topics.items() for p in range(count)]
            at = clock()
            high, low = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
        found = MirrorCut(
            at=at,
            low={name: [low[TP(name, p)] for p in range(count)] for name, count in topics.items()},
            high={name: [high[TP(name, p)] for p in range(count)] for name, count in topics.items()},
        )
        document: dict[str, object] = msgspec.to_builtins(found)
        return document

    def progress(self, cut: Mapping[str, object]) -> MirrorProgress:
        """Say how far the mirror is; caught up only when no committed record up to the cut is missing."""
        connector = connector_name(self.name)
        try:
            status = self._connect.status(connector)
            read = positions(self._connect.offsets(connector), self.settings.source_alias)
        except NotFound:
            return MirrorProgress(caught_up=False, missing=(f"the connector {connector} is not there (yet)",))
        if status.failed:
            return MirrorProgress(caught_up=False, failed=status.traces or (f"{connector}: a task has FAILED",))
        asked = msgspec.convert(cut, MirrorCut)
        missing = lags(asked.ends(), asked.lows(), read)
        # Reading is dear: only when the connector has come to rest a little before the end.
        rests, self._missing_before = missing == self._missing_before, missing
        if missing and rests and sum(lag.offsets for lag in missing) <= PROBED:
            missing = self._with_records(missing)
        return MirrorProgress(
            caught_up=not missing, offsets=sum(lag.offsets for lag in missing), missing=tuple(map(str, missing))
        )

    def compare(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Compare the last records before the cut on both sides, byte by byte."""
        return [self._checked("records", lambda: self._compare(msgspec.convert(cut, MirrorCut)))]

    def move_groups(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Put every group of the source on the mirror at the very record that it would read next."""
        return [self._checked("groups", lambda: self._move(msgspec.convert(cut, MirrorCut)))]

    def stop(self) -> None:
        """Stop copying; how far it was stays known."""
        there = self._connect.names()
        for name in self._wanted:
            if name in there:
                self._connect.stop(name)

    @property
    def _prefix(self) -> str:
        return f"mainstay-{self.name}-"

    def _with_records(self, missing: Sequence[Lag]) -> list[Lag]:
        """Leave out lags that hold markers and aborted records alone: they are never copied, so they would last for ever."""
        with Side(librdkafka_settings(self._source)) as source:
            return [
                lag
                for lag in missing
                if source.digest(TP(lag.topic, lag.partition), lag.position, lag.end, lag.offsets)[0]
            ]

    def _checked(self, name: str, look: Callable[[], tuple[Verdict, str]]) -> Check:
        began = time.monotonic()
        try:
            verdict, detail = look()
        except TransientError as error:
            verdict, detail = Verdict.UNVERIFIED, str(error)
        except MainstayError as error:
            verdict, detail = Verdict.FAIL, str(error)
        return Check(name=f"{self.name}: {name}", verdict=verdict, detail=detail, seconds=time.monotonic() - began)

    def _compare(self, cut: MirrorCut) -> tuple[Verdict, str]:
        wrong, count = [], 0
        with self._sides() as sides:
            for tp, end in cut.ends().items():
                if end <= cut.lows()[tp]:
                    continue
                known = sides.pairs.get(tp)
                if not known:
                    wrong.append(f"{tp} has no record on the mirror")
                    continue
                here, there = nearest(known, max(cut.lows()[tp], end - SAMPLE))
                here, there = (here, there) if here >= cut.lows()[tp] else known[-1]
                wanted = sides.source.digest(tp, here, end, 1 << 40)
                found = sides.mirror.digest(tp, there, sides.ends.get(tp, 0), wanted[0]) if wanted[0] else (0, "")
                count += wanted[0]
                if wanted[0] and wanted != found:
                    wrong.append(f"{tp} from {here} on the source and {there} on the mirror")
        if wrong:
            return Verdict.FAIL, f"records differ: {'; '.join(wrong[:5])}"
        return Verdict.PASS, f"the last {count} records of {len(cut.ends())} partitions are the same, byte by byte"

    def _move(self, cut: MirrorCut) -> tuple[Verdict, str]:
        with open_admin(self._source) as admin:
            names = [g for g, kind in admin.groups().items() if kind != "share" and not g.startswith(OWN_GROUPS)]
            groups = admin.committed([name for name in names if matches(self.settings.groups, name)])
        moved, differing, beyond = 0, [], []
        with self._sides() as sides, open_admin(self._target) as admin:
            for group, held in sorted(groups.items()):
                new: dict[TP, tuple[int, str]] = {}
                for tp, (position, note) in held.items():
                    if tp not in cut.ends():
                        continue
                    found = _translated(sides, tp, position, cut)
                    if found is None:
                        beyond.append(f"{group} {tp}")
                        continue
                    new[tp] = (found.offset, note)
                    if not found.equal:
                        differing.append(f"{group} {tp} {position} -> {found.offset}")
                admin.commit(group, new)
                moved += len(new)
        if differing:
            return Verdict.FAIL, f"the next records are not the same: {'; '.join(differing[:5])}"
        if beyond:
            return Verdict.UNVERIFIED, f"not on the mirror yet: {', '.join(beyond[:5])}; {moved} positions were moved"
        return Verdict.PASS, f"{moved} positions of {len(groups)} groups, each at the same record"

    @contextmanager
    def _sides(self) -> Iterator[_Sides]:
        notes = f"mm2-offset-syncs.{self.settings.source_alias}.internal"
        with open_admin(self._target) as admin:
            topics = admin.topics()
            if notes not in topics:
                raise Misconfigured(
                    f"the mirror has no topic {notes}",
                    hint="offset-syncs.topic.location must be target; apply the mirror",
                )
            partitions = [TP(t.name, p.index) for t in topics.values() for p in t.partitions if not t.internal]
            ends = admin.offsets(partitions, LATEST)
        with Side(librdkafka_settings(self._source)) as source, Side(librdkafka_settings(self._target)) as mirror:
            pairs = read_pairs(mirror, {tp: end for tp, end in ends.items() if tp.topic == notes})
            yield _Sides(source, mirror, ends, pairs)


@dataclass(frozen=True)
class _Sides:
    """Both clusters, open for reading, and what MirrorMaker 2 has noted about them."""

    source: Side
    mirror: Side
    ends: Mapping[TP, int]
    pairs: Mapping[TP, Sequence[Pair]]


def _translated(sides: _Sides, tp: TP, position: int, cut: MirrorCut) -> Found | None:
    end = cut.ends()[tp]
    pairs = sides.pairs.get(tp)
    if not pairs:
        # Nothing of the partition was ever copied: right when it is empty, unknown otherwise.
        return Found(offset=0, compared=False) if end <= cut.lows()[tp] else None
    return translate(
        sides.source,
        sides.mirror,
        tp,
        min(position, end),
        pairs,
        source_end=end,
        mirror_end=sides.ends.get(tp, 0),
    )
