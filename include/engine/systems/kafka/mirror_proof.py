"""Holds a mirror against its source: the last records byte by byte, and every group at the very record that it would read next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, TransientError
from include.engine.model import Check, Verdict
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.caught_up import MirrorCut
from include.engine.systems.kafka.client import LATEST, TP, Admin, open_admin
from include.engine.systems.kafka.cut import OWN_GROUPS
from include.engine.systems.kafka.settings import Mirror, matches
from include.engine.systems.kafka.translate import Found, Pair, Side, nearest, read_pairs, translate

SAMPLE = 500  # records at the end of every partition that are compared


@dataclass(frozen=True)
class _Sides:
    """Both clusters, open for reading, and what MirrorMaker 2 has noted about them."""

    source: Side
    mirror: Side
    ends: Mapping[TP, int]
    pairs: Mapping[TP, Sequence[Pair]]


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
        if not count:
            return Verdict.UNVERIFIED, f"nothing to compare: {len(cut.ends())} partitions of the source hold no record"
        return Verdict.PASS, f"the last {count} records of {len(cut.ends())} partitions are the same, byte by byte"

    def _move(self, cut: MirrorCut) -> tuple[Verdict, str]:
        with open_admin(self._source) as admin:
            names = [g for g, kind in admin.groups().items() if kind != "share" and not g.startswith(OWN_GROUPS)]
            groups = admin.committed([name for name in names if matches(self._settings.groups, name)])
        moves = _Moves()
        with self._sides() as sides, open_admin(self._target) as admin:
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
    def _sides(self) -> Iterator[_Sides]:
        notes = f"mm2-offset-syncs.{self._settings.source_alias}.internal"
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
