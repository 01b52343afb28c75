"""Whether the parts of a set fit together: the order of the cuts, what the streams had read, what a replay does.  Pure.

The claim, and why it holds, is in docs/consistency.md.  In short: a stream had read a log up to O when its checkpoint was
frozen.  The snapshot of the tables came after that, so every record before O is in it, or was refused as a dead letter.  The
end of the log was read after the snapshot, so every record that is in the tables is in the log's backup.  A replay from O to
the end writes again what the snapshot has of these records, and adds what it lacks; if writing twice is writing once, nothing
is lost and nothing doubled.

Of a flow whose topic has never had a record, that there was none is read from the log: every partition ends at offset 0, which no
offset ever goes back to.  Then nothing can be missing, and that is proved.  A log that is empty because its records have expired
proves nothing.  That is not green, and no fault: see :func:`without_records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from include.engine.model import (
    FREEZE_ORDER,
    Check,
    Consistency,
    Coverage,
    Cut,
    Flow,
    Frozen,
    Reconciled,
    System,
    Target,
    Verdict,
    worst,
)

COVERAGE = "coverage"  # the check that nothing is left out
_COVER = "name it in the inventory, or under `exclude` when it is left out on purpose"
_READ_UP_TO, _RECONCILIATION = "read up to", "reconciliation of"
_TOLD = 5  # partitions, gaps or keys that a detail names


class Silence(Struct, frozen=True):
    """What is known of a flow that had nothing to read when the set was frozen.

    :param told: in a sentence
    :param proved: there never was a record, so that none can be missing
    """

    told: str
    proved: bool

    @property
    def verdict(self) -> Verdict:
        """Of what asks for its records."""
        return Verdict.PASS if self.proved else Verdict.UNVERIFIED


Silent = Mapping[str, Silence]  # by flow


def judge_consistency(order: Sequence[Frozen], cuts: Mapping[Target, Cut], silent: Silent) -> Consistency:
    """Judge a set by how it was frozen and by what was frozen.

    :param order: when each target was frozen; empty when nobody measured it
    :param cuts: of all parts
    :param silent: of :func:`without_records`
    """
    logs = {target: cut for target, cut in cuts.items() if target.system is System.KAFKA}
    tables = {target: cut for target, cut in cuts.items() if target.system is System.CASSANDRA}
    streams = {target: cut for target, cut in sorted(cuts.items()) if target.system is System.SPARK}
    checks = [_in_order(order, cuts)]
    replay: int | None = 0
    for target, cut in streams.items():
        found = _offsets(target, cut, logs, silent)
        checks += [found, _sink_after(target, tables, order), *_idempotent(target, cut)]
        replay = None if replay is None or found.verdict is not Verdict.PASS else replay + _behind(cut, logs)
    moments = [cut.at for cut in cuts.values()]
    return Consistency(
        checks=tuple(checks),
        freeze_seconds=(order[-1].ended - order[0].began).total_seconds() if order else 0.0,
        skew_seconds=(max(moments) - min(moments)).total_seconds() if moments else 0.0,
        replay_records=replay if streams else None,
    )


def judge_coverage(coverage: Coverage) -> Check:
    """Judge what is in no backup: a gap is a failure, a target that could not be asked leaves it open.

    What the inventory leaves out on purpose is told, and is no failure.
    """
    gaps = [f"{target}: {gap}" for target, found in sorted(coverage.gaps.items()) for gap in found]
    if gaps:
        return Check(name=COVERAGE, verdict=Verdict.FAIL, detail=f"in no backup: {_some(gaps)}; {_COVER}")
    if coverage.unread:
        unread = [f"{target}: {why}" for target, why in sorted(coverage.unread.items())]
        return Check(name=COVERAGE, verdict=Verdict.UNVERIFIED, detail=f"could not be asked: {_some(unread)}")
    asked = ", ".join(sorted(coverage.gaps))
    excluded = [f"{target}: {one}" for target, found in sorted(coverage.excluded.items()) for one in found]
    told = f"is left out but, on purpose, {_some(excluded)}" if excluded else "is left out"
    return Check(name=COVERAGE, verdict=Verdict.PASS, detail=f"nothing on {asked} {told}")


def without_records(cuts: Mapping[Target, Cut]) -> dict[str, Silence]:
    """Say of the flows that had nothing to read when the set was frozen what is known of them.

    A flow that has read further than its log's beginning, or whose log nobody froze, is none of them: its records are somewhere.
    """
    logs = {target: cut for target, cut in cuts.items() if target.system is System.KAFKA}
    found: dict[str, Silence | None] = {}
    for _, cut in sorted(cuts.items()):
        for flow in cut.flows:
            silence = _silence(flow, cut, _log_of(flow.topic, logs))
            # Two jobs may have a flow of the same name, and a reconciliation tells the flow alone.
            found[flow.name] = silence if flow.name not in found or found[flow.name] else None
    return {name: silence for name, silence in found.items() if silence}


def _silence(flow: Flow, cut: Cut, log: Cut | None) -> Silence | None:
    if log is None:
        return None
    ends, begins, reads = log.offsets[flow.topic], log.begins.get(flow.topic, {}), cut.offsets.get(flow.topic, {})
    if any(end > begins.get(partition, 0) for partition, end in ends.items()):
        return None
    if any(offset != ends.get(partition) for partition, offset in reads.items()):
        return None
    if not ends or any(ends.values()):
        expired = "its records have expired, and nobody can look what became of them"
        return Silence(f"the log of {flow.name} is empty: {expired}", proved=False)
    known, about = log.identities.get(flow.topic), cut.identities.get(flow.topic)
    if known and about and known != about:
        return None  # the topic was made anew: what this job has read was in another one
    return Silence(
        f"{flow.name} has had no record yet: {flow.topic} ends at offset 0 in {len(ends)} of {len(ends)} partitions",
        proved=True,
    )


def nothing_to_look_at(cuts: Mapping[Target, Cut], silent: Silent) -> tuple[str, ...]:
    """Name the checks that such flows leave unproved."""
    open_ = {name for name, silence in silent.items() if not silence.proved}
    unread = [
        target
        for target, cut in sorted(cuts.items())
        if not cut.offsets and _all_silent(cut, silent) and any(flow.name in open_ for flow in cut.flows)
    ]
    return (
        *(f"{target}: {_READ_UP_TO}" for target in unread),
        *(f"{_RECONCILIATION} {flow}" for flow in silent if flow in open_),
    )


def _all_silent(cut: Cut, silent: Silent) -> bool:
    return bool(cut.flows) and all(flow.name in silent for flow in cut.flows)


def judge_reconciliation(found: Reconciled, silent: Silent) -> Check:
    """Judge whether every record that a stream had read is in its table, or explained by a dead letter.

    :param silent: of :func:`without_records`
    """
    name = f"{_RECONCILIATION} {found.flow}"
    old = f"; {found.expired} more are older than rows or dead letters are kept" if found.expired else ""
    if found.records == 0:
        silence = silent.get(found.flow) or Silence("there was no record to look for", proved=False)
        return Check(name=name, verdict=silence.verdict, detail=f"{silence.told}{old}")
    told = f"{found.records} records: {found.rows} rows, {found.dead_letters} dead letters{old}"
    if found.lost == 0:
        return Check(name=name, verdict=Verdict.PASS, detail=told)
    keys = f", such as {_some(found.missing)}" if found.missing else ""
    return Check(name=name, verdict=Verdict.FAIL, detail=f"{told}; {found.lost} are in neither{keys}")


def _in_order(order: Sequence[Frozen], cuts: Mapping[Target, Cut]) -> Check:
    name = "order of the freeze"
    if {one.target for one in order} != set(cuts) or not order:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail="nobody noted when each target was frozen")
    text = ", ".join(f"{one.target} {(one.ended - one.began).total_seconds():.1f} s" for one in order)
    for before, after in pairwise(order):
        late = FREEZE_ORDER.index(before.target.system) > FREEZE_ORDER.index(after.target.system)
        if late or before.ended > after.began:
            return Check(
                name=name, verdict=Verdict.FAIL, detail=f"{after.target} was frozen before {before.target}: {text}"
            )
    early = [one for one in order if cuts[one.target].at > one.ended]
    if early:
        return Check(name=name, verdict=Verdict.FAIL, detail=f"the cut of {early[0].target} is later than its freeze")
    return Check(name=name, verdict=Verdict.PASS, detail=text)


def _offsets(target: Target, cut: Cut, logs: Mapping[Target, Cut], silent: Silent) -> Check:
    """Check that what *target* had read, and what it reads next, is in the backup of the log."""
    name = f"{target}: {_READ_UP_TO}"
    if not cut.offsets:
        silences = [silent[flow.name] for flow in cut.flows if flow.name in silent]
        # A job that has read nothing though there are records is another matter.
        others = [flow for flow in cut.flows if flow.name not in silent]
        told = [silence.told for silence in silences] + [_unread(flow, logs) for flow in others]
        proved = bool(silences) and not others
        verdict = worst([silence.verdict for silence in silences]) if proved else Verdict.UNVERIFIED
        return Check(name=name, verdict=verdict, detail=_some(told) or "the checkpoint tells no offsets")
    if not logs:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail="the set has no log to replay from")
    wrong = [
        text for topic, reads in sorted(cut.offsets.items()) for text in _wrong(topic, reads, cut.identities, logs)
    ]
    if wrong:
        return Check(name=name, verdict=Verdict.FAIL, detail=_some(wrong))
    at = ", ".join(f"{topic} {sum(reads.values())}" for topic, reads in sorted(cut.offsets.items()))
    return Check(name=name, verdict=Verdict.PASS, detail=f"{at} (sums of offsets); {_behind(cut, logs)} to replay")


def _unread(flow: Flow, logs: Mapping[Target, Cut]) -> str:
    if _log_of(flow.topic, logs) is None:
        return f"{flow.name} has read nothing, and its topic {flow.topic} is in no log of the set"
    return f"{flow.name} has read nothing of {flow.topic}, which has records: its checkpoint tells no offsets"


def _wrong(topic: str, reads: Mapping[int, int], about: Mapping[str, str], logs: Mapping[Target, Cut]) -> Iterator[str]:
    log = _log_of(topic, logs)
    if log is None:
        yield f"the topic {topic} is in no log of the set"
        return
    known, found = about.get(topic), log.identities.get(topic)
    if known and found and known != found:
        yield f"the checkpoint is about another topic {topic}, {known}: this one, {found}, was made anew under its name"
        return
    ends, begins = log.offsets[topic], log.begins.get(topic, {})
    for partition, offset in sorted(reads.items()):
        if partition not in ends:
            yield f"{topic}-{partition} is not in the log: the topic was made anew with fewer partitions"
        elif offset > ends[partition]:
            yield f"{topic}-{partition} was read up to {offset}, and the log ends at {ends[partition]}: it is another topic"
        elif offset < begins.get(partition, 0):
            yield (
                f"{topic}-{partition} was read up to {offset}, and the log begins at {begins[partition]}: "
                "retention was faster than the stream"
            )


def _behind(cut: Cut, logs: Mapping[Target, Cut]) -> int:
    """How many offsets lie between what was read and the end.  Partitions that the stream has not seen yet are read whole."""
    total = 0
    for topic, reads in cut.offsets.items():
        log = _log_of(topic, logs)
        ends = log.offsets[topic] if log else {}
        begins = log.begins.get(topic, {}) if log else {}
        total += sum(end - reads.get(partition, begins.get(partition, 0)) for partition, end in ends.items())
    return total


def _log_of(topic: str, logs: Mapping[Target, Cut]) -> Cut | None:
    return next((log for _, log in sorted(logs.items()) if topic in log.offsets), None)


def _sink_after(target: Target, tables: Mapping[Target, Cut], order: Sequence[Frozen]) -> Check:
    name = f"{target}: tables after the checkpoint"
    if not tables:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail="the set has no tables that it writes to")
    frozen = next((one.ended for one in order if one.target == target), None)
    if frozen is None:
        return Check(name=name, verdict=Verdict.UNVERIFIED, detail="nobody noted when the checkpoint was frozen")
    early = [str(one) for one, cut in sorted(tables.items()) if cut.at < frozen]
    if early:
        return Check(
            name=name,
            verdict=Verdict.FAIL,
            detail=f"the snapshot of {', '.join(early)} is older than the checkpoint: records in between would be lost",
        )
    gap = min((cut.at - frozen).total_seconds() for cut in tables.values())
    return Check(name=name, verdict=Verdict.PASS, detail=f"the snapshot began {gap:.1f} s after it")


def _idempotent(target: Target, cut: Cut) -> Iterator[Check]:
    if not cut.flows:
        yield Check(
            name=f"{target}: replay writes the same rows",
            verdict=Verdict.UNVERIFIED,
            detail="the checkpoint's backup does not say where its records go",
        )
    verdicts = {True: Verdict.PASS, False: Verdict.FAIL, None: Verdict.UNVERIFIED}
    for flow in cut.flows:
        yield Check(
            name=f"{target}: replay of {flow.name} writes the same rows",
            verdict=verdicts[flow.idempotent],
            detail=flow.why or "it could not be told",
        )


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return "; ".join(words[:_TOLD]) + more
