"""Back up: freeze the cut, copy the bytes, seal the set, verify it, release what was left on the servers.

Each step is named after the run and can be repeated: it finds what an earlier attempt has done and goes on from there.
Airflow runs them as tasks; the shell runs them in a row.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from include.engine.contracts import Clock, CopyJob, Progress, Stop
from include.engine.errors import Incomplete, MainstayError, Refused
from include.engine.excluding import Excludes, LeftOut
from include.engine.model import (
    Check,
    Coverage,
    Cut,
    Freeze,
    Frozen,
    Manifest,
    Part,
    Reconciled,
    SetManifest,
    Target,
    Verdict,
    backup_time,
)
from include.engine.replaying import Reconciles
from include.engine.store.lease import hold, working_here
from include.engine.store.locks import ObjectLocks
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader, VaultWriter
from include.engine.verbs import ancestry
from include.engine.verbs.consistency import (
    judge_consistency,
    judge_coverage,
    judge_reconciliation,
    nothing_to_look_at,
    without_records,
)
from include.engine.verbs.deadline import within
from include.engine.verbs.pipeline import Pipeline


def freeze(pipeline: Pipeline, set_id: str, targets: Sequence[Target], *, clock: Clock) -> Freeze:
    """Fix the cut of a set over *targets*, in the order that makes it consistent.  A retry keeps the cut of the first.

    :raises Refused: when no target is left to freeze
    """
    backup_time(set_id)
    found = pipeline.catalog.find_freeze(set_id)
    if found is not None:
        return found
    if not targets:
        raise Refused(
            "a set over no target would prove nothing", hint="name at least one target, or add one to the inventory"
        )
    started = clock()
    cuts: dict[str, Cut] = {}
    order: list[Frozen] = []
    # One after the other, in the order of pipeline.targets, whatever order they are named in: docs/consistency.md.
    for target in (target for target in pipeline.targets if target in targets):
        began = clock()
        cuts[str(target)] = pipeline.lookup.source(target).freeze(set_id, clock)
        order.append(Frozen(target=target, began=began, ended=clock()))
    left_out = tuple(str(target) for target in pipeline.targets if target not in targets)
    return pipeline.catalog.commit_freeze(
        Freeze(id=set_id, started=started, frozen=clock(), cuts=cuts, left_out=left_out, order=tuple(order))
    )


def copy(
    pipeline: Pipeline, set_id: str, target: Target, *, progress: Progress, stop: Stop, clock: Clock, full: bool = False
) -> Manifest:
    """Take the backup of one target of a frozen set, and commit it.  A backup that exists already is given as it is.

    :raises Incomplete: when the set was not frozen, or the backup holds nothing
    :raises Contended: when what it builds on was removed meanwhile: the next attempt builds on something else
    """
    catalog = pipeline.catalog
    done = catalog.find(target, set_id)
    if done is not None:
        progress.say(f"{target} {set_id} is complete already")
        return done
    cut = _frozen(pipeline, set_id).cuts.get(str(target))
    if cut is None:
        raise Incomplete(
            f"{target} is not in the frozen set {set_id}", hint="run the backup again with this target in it"
        )
    terms = pipeline.terms[target]
    attempt = f"{catalog.folder(target, set_id)}/{uuid.uuid4().hex[:12]}"
    writer = VaultWriter(catalog.bucket, attempt, recipients=terms.recipients)
    until = clock() + terms.timeout
    # The lease of the attempt ends with its timeout: an attempt that outlived it could be swept while it writes.
    late = f"it took longer than the target's timeout of {terms.timeout}"
    with hold(catalog.bucket, attempt, until=until, clock=clock), within(terms.timeout, stop, why=late):
        # Under the lease: expiry removes nothing from now on of what this may build on.
        history = ancestry.known(pipeline, target, progress)
        manifest = pipeline.lookup.source(target).copy(
            CopyJob(
                id=set_id,
                target=target,
                cut=cut,
                writer=writer,
                reader=VaultReader(catalog.bucket, identities=terms.identities, manifests=history),
                shared=SharedFolder(catalog.bucket, target),
                history=history,
                doubted=ancestry.doubted(pipeline, history),
                progress=progress,
                stop=stop,
                clock=clock,
                full=full,
            )
        )
        if not manifest.entries or manifest.bytes == 0:
            raise Incomplete(
                f"the backup {set_id} of {target} holds nothing", hint="check that the target is the right server"
            )
        stop.check()
        ancestry.require(pipeline, manifest)
        return catalog.commit(msgspec.structs.replace(manifest, encryption=writer.encryption))


def seal(pipeline: Pipeline, set_id: str, *, clock: Clock) -> SetManifest:
    """Write the set, only when every target that was frozen has its backup, and lock it when that was agreed.

    :raises Incomplete: naming the targets that have none
    """
    done = pipeline.catalog.find_set(set_id)
    sealed = done or _sealed(pipeline, set_id, clock)
    if pipeline.lock is not None:
        # Also when the set was there already: the attempt before this one may have died between the two.
        ObjectLocks.of(pipeline.catalog.bucket).lock(_keys(pipeline, sealed), clock() + pipeline.lock)
    return sealed


def _sealed(pipeline: Pipeline, set_id: str, clock: Clock) -> SetManifest:
    catalog = pipeline.catalog
    frozen = _frozen(pipeline, set_id)
    manifests = {name: catalog.find(Target.parse(name), set_id) for name in frozen.cuts}
    missing = sorted(name for name, manifest in manifests.items() if manifest is None)
    if missing:
        raise Incomplete(
            f"the set {set_id} lacks the backup of {', '.join(missing)}",
            hint="clear the failed copy: its retry finds the frozen set; of Cassandra the snapshot is released: take a new set",
        )
    parts = tuple(_part(pipeline, manifest) for manifest in manifests.values() if manifest is not None)
    by_hand = "\n\n".join(
        pipeline.lookup.engine(manifest.target).by_hand(manifest)
        for manifest in manifests.values()
        if manifest is not None
    )
    cuts = {manifest.target: manifest.cut for manifest in manifests.values() if manifest is not None}
    silent = without_records(cuts)
    consistency = judge_consistency(frozen.order, cuts, silent)
    coverage = cover(pipeline, [Target.parse(name) for name in frozen.cuts])
    reconciled, unread = reconcile(pipeline, frozen)
    return catalog.commit_set(
        SetManifest(
            id=set_id,
            pipeline=pipeline.name,
            started=frozen.started,
            frozen=frozen.frozen,
            finished=clock(),
            parts=parts,
            left_out=frozen.left_out,
            by_hand=by_hand,
            order=frozen.order,
            consistency=consistency,
            coverage=coverage,
            reconciled=reconciled,
            checks=(
                *consistency.checks,
                judge_coverage(coverage),
                *(judge_reconciliation(one, silent) for one in reconciled),
                *unread,
            ),
            nothing_to_look_at=nothing_to_look_at(cuts, silent),
        )
    )


def cover(pipeline: Pipeline, targets: Sequence[Target]) -> Coverage:
    """Ask the live systems what is in no backup.  One that does not answer is named, and counts as not covered."""
    gaps: dict[str, tuple[str, ...]] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    unread: dict[str, str] = {}
    for target in targets:
        try:
            source = pipeline.lookup.source(target)
            found = source.left_out() if isinstance(source, Excludes) else LeftOut(gaps=tuple(source.inventory_gaps()))
        except MainstayError as error:
            unread[str(target)] = error.message
            continue
        gaps[str(target)] = found.gaps
        if found.on_purpose:
            excluded[str(target)] = found.on_purpose
    return Coverage(gaps=gaps, excluded=excluded, unread=unread)


def reconcile(pipeline: Pipeline, frozen: Freeze) -> tuple[tuple[Reconciled, ...], tuple[Check, ...]]:
    """Compare what the streams had read with what became of it; give also the checks that could not be made."""
    found: list[Reconciled] = []
    unread: list[Check] = []
    for name, cut in frozen.cuts.items():
        source: object = pipeline.lookup.source(Target.parse(name)) if cut.flows else None
        if not isinstance(source, Reconciles):
            continue
        try:
            found += source.reconcile(cut)
        except MainstayError as error:
            check = Check(name=f"reconciliation of {name}", verdict=Verdict.UNVERIFIED, detail=error.message)
            unread.append(check)
    return tuple(found), tuple(unread)


def release(pipeline: Pipeline, set_id: str, targets: Sequence[Target]) -> tuple[Target, ...]:
    """Clear what a run left on the servers.  Tries every target before it raises the first error.

    :return: the targets that another process of this machine still copies for the same set, which were left to it
    """
    errors: list[MainstayError] = []
    left: list[Target] = []
    for target in targets:
        if _copied_here(pipeline, set_id, target):
            left.append(target)
            continue
        try:
            pipeline.lookup.source(target).release(set_id)
        except MainstayError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return tuple(left)


def _copied_here(pipeline: Pipeline, set_id: str, target: Target) -> bool:
    try:
        return bool(working_here(pipeline.catalog.bucket, target, set_id))
    except MainstayError:
        return False  # a store that is away must not keep anybody from tidying the servers


def _keys(pipeline: Pipeline, sealed: SetManifest) -> Iterator[str]:
    """Give every object that *sealed* needs, the chains below its parts included: their locks are extended with it."""
    yield f"sets/{sealed.id}/manifest.json"
    for part in sealed.parts:
        backup: str | None = part.backup
        while backup is not None:
            manifest = pipeline.catalog.backup(part.target, backup)
            yield pipeline.catalog.manifest_key(part.target, backup)
            yield from sorted({entry.key for entry in manifest.entries})
            backup = manifest.parent


def _frozen(pipeline: Pipeline, set_id: str) -> Freeze:
    frozen = pipeline.catalog.find_freeze(set_id)
    if frozen is None:
        raise Incomplete(f"the set {set_id} was never frozen", hint="run the freeze step first")
    return frozen


def _part(pipeline: Pipeline, manifest: Manifest) -> Part:
    key = pipeline.catalog.manifest_key(manifest.target, manifest.id)
    raw = pipeline.catalog.bucket.read(key)
    return Part(
        target=manifest.target,
        backup=manifest.id,
        manifest_key=key,
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        cut=manifest.cut,
        bytes=manifest.bytes,
        recoverable_to=manifest.recoverable_to,
    )
