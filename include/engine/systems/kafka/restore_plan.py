"""Plans a restore: which backup reaches the point, what is on the destination, and what would be done, for a person to read."""

from __future__ import annotations

import msgspec

from include.engine.contracts import PlanRequest
from include.engine.errors import Misconfigured, NotFound
from include.engine.model import Destination, Manifest, PointKind, RecoveryPoint, RestorePlan, Target
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, Admin
from include.engine.systems.kafka.decisions import Decisions, Existing, decide, expiring
from include.engine.systems.kafka.declared import effective_configs
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.groups import running
from include.engine.systems.kafka.loading import begun_at, marker


def choose(target: Target, request: PlanRequest, point: RecoveryPoint) -> Manifest:
    """Give the backup to restore from.

    :raises NotFound: when none is there, or none reaches the point
    """
    manifests = list(request.manifests)
    if point.kind in (PointKind.POSITION, PointKind.NAME):
        raise Misconfigured(f"{point} does not name a point in Kafka", hint="use latest, backup or a time")
    if request.backup is not None:
        found = [manifest for manifest in manifests if manifest.id == request.backup]
        if not found:
            raise NotFound(f"{target} has no backup {request.backup}", hint="`./mainstay catalog` lists them")
        manifests = found
    if point.kind is not PointKind.TIME or point.time is None:
        return manifests[-1]
    # The first backup that reaches the point has all of it, and less that retention took later.  Its cut may be after the point
    # and it may lack records all the same: those behind a transaction that hung.
    reaching = [manifest for manifest in manifests if manifest.recoverable_to >= point.time]
    if not reaching:
        raise NotFound(
            f"no backup of {target} reaches {point.time.isoformat()}",
            hint=f"the newest goes to {manifests[-1].recoverable_to.isoformat()}",
        )
    return reaching[0]


def decided(admin: Admin, saved: Saved, request: PlanRequest, until: int | None) -> Decisions:
    """Decide what a restore into the running cluster behind *admin* would do (see ``decisions.decide``)."""
    names = {request.rename.get(topic, topic) for topic in saved.detail.topics}
    found = admin.topics(names)
    partitions = [TP(topic.name, p.index) for topic in found.values() for p in topic.partitions]
    ends, begins = admin.offsets(partitions, LATEST, committed=False), admin.offsets(partitions, EARLIEST)
    existing = {
        name: Existing(
            partitions=len(topic.partitions),
            records=sum(ends[TP(name, p.index)] - begins[TP(name, p.index)] for p in topic.partitions),
        )
        for name, topic in found.items()
    }
    chosen = set(request.only) or set(saved.detail.topics)
    mark = marker(saved, {topic: request.rename.get(topic, topic) for topic in chosen}, until)
    # What an attempt that was to append found there is none of the backup's: who does not append is refused as before.
    begun = {tp for tp, (base, _) in begun_at(admin, mark).items() if request.append or base <= begins.get(tp, base)}
    decisions = decide(
        saved,
        only=request.only,
        rename=request.rename,
        append=request.append,
        until=until,
        brokers=len([broker for broker in admin.brokers() if not broker.fenced]),
        existing=existing,
        resuming=frozenset(tp.topic for tp in begun),
        access=bool(request.access),
    )
    busy = running(admin, saved, {topic.source for topic in decisions.topics})
    stop_first = [
        f"stop the consumers of {', '.join(busy)} before the restore, which moves these groups: they run there"
    ]
    there = effective_configs(admin, found, ("retention.ms", "retention.bytes", "cleanup.policy"))
    now = request.clock() if request.clock is not None else saved.manifest.finished
    soon = expiring(decisions, saved, now, there=there)
    return msgspec.structs.replace(decisions, warnings=(*decisions.warnings, *(stop_first if busy else []), *soon))


def planned(
    target: Target, saved: Saved, point: RecoveryPoint, destination: Destination, decisions: Decisions
) -> RestorePlan:
    """Say what would be done."""
    names, until = {topic.source for topic in decisions.topics}, decisions.until
    segments = [
        s for s in saved.detail.segments if s.facts.topic in names and (until is None or s.facts.oldest <= until)
    ]
    into = destination.name or destination.path or "a sandbox"
    renamed = [f"restored under another name: {t.source} as {t.name}" for t in decisions.topics if t.source != t.name]
    return RestorePlan(
        target=target,
        backup=saved.manifest.id,
        chain=(saved.manifest.id,),
        point=point,
        destination=destination,
        bytes_to_fetch=sum(saved.entry(s).bytes for s in segments),
        bytes_needed=sum(s.facts.raw_bytes for s in segments),
        steps=(
            f"create {sum(not t.exists for t in decisions.topics)} topics in {into}, retention off",
            f"load {sum(s.facts.records for s in segments)} records from {len(segments)} segments, in order",
            f"move {len(saved.cut.groups)} consumer groups to the same records",
            "put the configurations back",
            *((f"put back {decisions.grants}",) if decisions.grants else ()),
        ),
        warnings=(*decisions.warnings, *renamed, *saved.manifest.notes),
        detail=msgspec.to_builtins(decisions),
    )
