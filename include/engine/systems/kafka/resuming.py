"""What an earlier attempt at a restore has left in a partition, compared with what was saved before anything is added to it.

The end of a partition tells how many records are there, not whose they are: a producer that was not stopped, or a loader that
outlived its task, would be counted as ours, and as many saved records would be left out for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import Struct

from include.engine.contracts import Connection, Stop
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.detail import SegmentRef
from include.engine.systems.kafka.isolation import Child
from include.engine.systems.kafka.planning import shares
from include.engine.systems.kafka.ranges import Range, SegmentFacts
from include.engine.systems.kafka.refusals import foreign

Piece = tuple[int, str]  # how many records, and the digest of their contents


class Begun(Struct, frozen=True, kw_only=True):
    """How far a partition is."""

    whole: tuple[SegmentRef, ...] = ()  # that are there, from the first one on
    left: tuple[SegmentRef, ...] = ()  # that are not, or not wholly
    rest: int = 0  # records of the segments that are left which are there already
    content: str = ""  # digest of those


def divide(segments: Sequence[SegmentRef], there: int, until: int | None) -> Begun:
    """Say what *there* records of *segments*, the first ones, are.  Pure.

    :param until: the point in time of the restore: how many records a segment has up to it is known only when it is read
    """
    left = list(segments)
    whole = []
    while left and (until is None or left[0].facts.newest <= until) and left[0].facts.records <= there:
        there -= left[0].facts.records
        whole.append(left.pop(0))
    return Begun(whole=tuple(whole), left=tuple(left), rest=there)


def compared(
    found: Mapping[TP, Begun], bases: Mapping[TP, int], connection: Connection, *, readers: int, stop: Stop
) -> dict[TP, Begun]:
    """Read back what is there, and give it with the digest of the part that only reading the segments can judge.

    :param bases: where each partition began
    :raises Refused: when it is not what was saved
    """
    cuts = {tp: [s.facts.records for s in one.whole] + [one.rest] * bool(one.rest) for tp, one in found.items()}
    cuts = {tp: counts for tp, counts in cuts.items() if counts}
    there = read_back(connection, {tp: (bases[tp], bases[tp] + sum(cuts[tp])) for tp in cuts}, cuts, readers, stop)
    judged = dict(found)
    for tp, counts in cuts.items():
        one, pieces = found[tp], there.get(tp, [])
        saved = [(s.facts.records, s.facts.content) for s in one.whole]
        if pieces[: len(saved)] != saved or [count for count, _ in pieces] != counts:
            raise foreign(str(tp))
        if one.rest:
            judged[tp] = msgspec.structs.replace(one, content=pieces[-1][1])
    return judged


def read_back(
    connection: Connection,
    wanted: Mapping[TP, tuple[int, int]],
    cuts: Mapping[TP, Sequence[int]],
    readers: int,
    stop: Stop | None = None,
) -> dict[TP, list[Piece]]:
    """Read offsets of partitions, cut where *cuts* say, and give each piece's count and digest."""
    ranges = [
        Range(topic=tp.topic, partition=tp.partition, start=start, stop=end) for tp, (start, end) in wanted.items()
    ]
    order = {"settings": librdkafka_settings(connection), "form": "facts"}
    found: dict[TP, list[Piece]] = {}

    def read(hand: Sequence[Range]) -> None:
        mine = {f"{r.topic}-{r.partition}": list(cuts[TP(r.topic, r.partition)]) for r in hand}
        with Child("reader") as child:
            if stop is not None:
                stop.on_stop(child.kill)
            child.send(order | {"ranges": msgspec.to_builtins(list(hand)), "cuts": mine})
            child.finish_sending()
            for frame in child.frames():
                if "segment" in frame:
                    facts = msgspec.convert(frame["segment"], SegmentFacts)
                    found.setdefault(TP(facts.topic, facts.partition), []).append((facts.records, facts.content))

    hands = shares(ranges, readers)
    if hands:
        with ThreadPoolExecutor(len(hands), thread_name_prefix="read back") as pool:
            for done in [pool.submit(read, hand) for hand in hands]:
                done.result()
    if stop is not None:
        stop.check()
    return found
