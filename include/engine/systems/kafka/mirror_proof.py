"""Holds a mirror against its source: the last records byte by byte, and every group at the very record that it would read next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, TransientError
from include.engine.model import Check, Verdict
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.caught_up import PROBED, MirrorCut
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin, open_admin
from include.engine.systems.kafka.cut import OWN_GROUPS
from include.engine.systems.kafka.settings import Mirror, matches
from include.engine.systems.kafka.topology import notes_of
from include.engine.systems.kafka.translate import (
    SEARCHED,
    Bounds,
    Found,
    Pair,
    Side,
    nearest,
    overlap,
    present,
    read_pairs,
    translate,
)

SAMPLE = 500  # records at the end of every partition that are compared
_GONE = "what is left on the source is not on the mirror any more, where retention has deleted it"


@dataclass(frozen=True)
class _Sides:
    """Both clusters, open for reading, where their partitions begin and end, and what MirrorMaker 2 has noted about them."""

    source: Side
    mirror: Side
    lows: Mapping[TP, int]
    ends: Mapping[TP, int]
    mirror_lows: Mapping[TP, int]
    mirror_ends: Mapping[TP, int]
    pairs: Mapping[TP, Sequence[Pair]]

    def bounds(self, tp: TP, end: int) -> Bounds:
        """Give where a partition begins and ends on both sides; *end* is what the mirror is known to have."""
        return Bounds(
            low=self.lows.get(tp, 0),
            end=end,
            now=max(end, self.ends.get(tp, 0)),
            mirror_low=self.mirror_lows.get(tp, 0),
            mirror_end=self.mirror_ends.get(tp, 0),
        )


@dataclass
class _Moves:
    """What became of the groups."""

    positions: int = 0
    differing: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)  # not on the mirror yet
    refused: list[MainstayError] = field(default_factory=list)


class MirrorProof:
    """What can be proved about one declared mirror."""

    def __init__(self, name: str, settings: Mirror, *, source: Connection, target: Connection) -> None:
        self._name = name
        self._settings = settings
        self._source = source
        self._target = target

    def records(self, cut: MirrorCut) -> Check:
        """Compare the last records before the cut."""
        return self._checked("records", lambda: self._compare(cut))

    def groups(self, cut: MirrorCut) -> Check:
        """Move every group, and see that its next record is the same on both sides."""
        return self._checked("groups", lambda: self._move(cut))

    def _checked(self, name: str, look: Callable[[], tuple[Verdict, str]]) -> Check:
        began = time.monotonic()
        try:
            verdict, detail = look()
        except TransientError as error:
            verdict, detail = Verdict.UNVERIFIED, str(error)
        except MainstayError as error:
            verdict, detail = Verdict.FAIL, str(error)
        return Check(name=f"{self._name}: {name}", verdict=verdict, detail=detail, seconds=time.monotonic() - began)

    def _compare(self, cut: MirrorCut) -> tuple[Verdict, str]:
        wrong, gone, count = [], [], 0
        with self._sides(cut) as sides:
            for tp, end in cut.ends().items():
                same, problem = _same(sides, tp, end)
                count += same
                if problem == _GONE:
                    gone.append(str(tp))
                elif problem:
                    wrong.append(f"{tp} {problem}")
        if wrong:
            return Verdict.FAIL, f"records differ: {'; '.join(wrong[:5])}"
        if gone:
            return Verdict.UNVERIFIED, f"{_GONE}: {', '.join(gone[:5])}; {count} other records are the same"
        if not count:
            return Verdict.UNVERIFIED, f"nothing to compare: {len(cut.ends())} partitions of the source hold no record"
        return Verdict.PASS, f"the last {count} records of {len(cut.ends())} partitions are the same, byte by byte"

    def _move(self, cut: MirrorCut) -> tuple[Verdict, str]:
        with open_admin(self._source) as admin:
            names = [g for g, kind in admin.groups().items() if kind != "share" and not g.startswith(OWN_GROUPS)]
            groups = admin.committed([name for name in names if matches(self._settings.groups, name)])
        moves = _Moves()
        with self._sides(cut) as sides, open_admin(self._target) as admin:
            for group, held in sorted(groups.items()):
                try:
                    _move_group(admin, sides, cut, group=group, held=held, moves=moves)
                except MainstayError as error:  # one group's running consumers must not keep the others where they are
                    moves.refused.append(error)
        if moves.differing:
            return Verdict.FAIL, f"the next records are not the same: {'; '.join(moves.differing[:5])}"
        if moves.refused:
            said = "; ".join(error.message for error in moves.refused[:5])
            verdict = Verdict.UNVERIFIED if all(isinstance(e, TransientError) for e in moves.refused) else Verdict.FAIL
            return verdict, f"{len(moves.refused)} of {len(groups)} groups were not moved: {said}"
        if moves.beyond:
            late = ", ".join(moves.beyond[:5])
            return Verdict.UNVERIFIED, f"not on the mirror yet: {late}; {moves.positions} positions were moved"
        return Verdict.PASS, f"{moves.positions} positions of {len(groups)} groups, each at the same record"

    @contextmanager
    def _sides(self, cut: MirrorCut) -> Iterator[_Sides]:
        notes = notes_of(self._settings)
        with open_admin(self._source) as admin:  # now, and not at the cut: retention has gone on since
            lows, ends = _bounds(admin, {tp.topic for tp in cut.ends()})
        with open_admin(self._target) as admin:
            mirror_lows, mirror_ends = _bounds(admin, None)
        noted = {tp: end for tp, end in mirror_ends.items() if tp.topic == notes}
        if not noted:
            raise Misconfigured(
                f"the mirror has no topic {notes}",
                hint="offset-syncs.topic.location must be target; apply the mirror",
            )
        with Side(librdkafka_settings(self._source)) as source, Side(librdkafka_settings(self._target)) as mirror:
            yield _Sides(source, mirror, lows, ends, mirror_lows, mirror_ends, read_pairs(mirror, noted))


def _bounds(admin: Admin, names: Collection[str] | None) -> tuple[dict[TP, int], dict[TP, int]]:
    """Give where the partitions of those topics begin and end that are there."""
    topics = admin.topics(names)
    partitions = [TP(t.name, p.index) for t in topics.values() for p in t.partitions if not t.internal]
    return admin.offsets(partitions, EARLIEST), admin.offsets(partitions, LATEST)


def _same(sides: _Sides, tp: TP, end: int) -> tuple[int, str]:
    """Compare the last records of a partition; give how many are the same, or what is wrong."""
    at = sides.bounds(tp, end)
    if end <= at.low:
        return 0, ""
    known = sides.pairs.get(tp)
    if not known:
        return 0, "has no record on the mirror" if _holds(sides, tp, at) else ""
    kept = [pair for pair in present(known, at.low, at.mirror_low) if pair[0] < end]
    if not kept:
        return _same_tail(sides, tp, at)
    here, there = nearest(kept, max(at.low, end - SAMPLE))
    wanted = sides.source.digest(tp, here, end, 1 << 40)
    found = sides.mirror.digest(tp, there, at.mirror_end, wanted[0]) if wanted[0] else wanted
    return (wanted[0], "") if wanted == found else (0, f"from {here} on the source and {there} on the mirror")


def _same_tail(sides: _Sides, tp: TP, at: Bounds) -> tuple[int, str]:
    """Compare from the end: retention has taken every record that was noted, on this side or on that."""
    source = sides.source.rows(tp, max(at.low, at.end - SAMPLE), at.end)
    mirror = sides.mirror.rows(tp, max(at.mirror_low, at.mirror_end - SEARCHED), at.mirror_end)
    if not source or not mirror:
        return 0, _GONE if source else ""
    same = overlap(source, mirror)
    return same, "" if same else f"before {at.end} on the source and {at.mirror_end} on the mirror"


def _holds(sides: _Sides, tp: TP, at: Bounds) -> bool:
    """Say whether a partition that was never copied holds a record: markers and aborted ones alone are none."""
    if at.end - at.low > PROBED:
        return True
    return at.low < at.end and bool(sides.source.digest(tp, at.low, at.end, PROBED)[0])


def _move_group(
    admin: Admin, sides: _Sides, cut: MirrorCut, *, group: str, held: Mapping[TP, tuple[int, str]], moves: _Moves
) -> None:
    new: dict[TP, tuple[int, str]] = {}
    differing = []
    for tp, (position, note) in held.items():
        if tp not in cut.ends():
            continue
        found = _translated(sides, tp, position, cut)
        if found is None:
            moves.beyond.append(f"{group} {tp}")
            continue
        new[tp] = (found.offset, note)
        if not found.equal:
            differing.append(f"{group} {tp} {position} -> {found.offset}")
    admin.commit(group, new)
    moves.positions += len(new)
    moves.differing += differing


def _translated(sides: _Sides, tp: TP, position: int, cut: MirrorCut) -> Found | None:
    end = cut.ends()[tp]
    at = sides.bounds(tp, end)
    pairs = sides.pairs.get(tp)
    if not pairs:
        # Nothing of the partition was ever copied: right when it holds no record, unknown otherwise.
        return None if _holds(sides, tp, at) else Found(offset=at.mirror_low, compared=False)
    return translate(sides.source, sides.mirror, tp, min(position, end), pairs, at=at)
