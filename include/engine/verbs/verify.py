"""Verify: read a set back and compare it with its manifests.  No key is needed: what is compared is what is stored."""

from __future__ import annotations

from include.engine.contracts import Clock, Progress, Stop
from include.engine.model import Check, Target, Verification
from include.engine.store.rereading import Trust
from include.engine.store.vault import VaultReader
from include.engine.store.verify import verify_backup, verify_set
from include.engine.verbs.pipeline import Pipeline

LATELY = Trust()  # what the verification that ends a backup believes


def check_set(pipeline: Pipeline, set_id: str) -> tuple[Check, ...]:
    """Check that a set is whole: every part's manifest is there and is the one that it was sealed with."""
    return verify_set(pipeline.catalog, pipeline.catalog.set(set_id))


def verify_part(
    pipeline: Pipeline,
    target: Target,
    backup: str,
    *,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    trust: Trust | None = None,
) -> Verification:
    """Read the objects of one backup back and record what was found.

    :param trust: do not read again what backups share and was read lately; read everything when it is None
    :raises NotFound: when there is no such backup
    """
    manifest = pipeline.catalog.backup(target, backup)
    reader = VaultReader(pipeline.catalog.bucket)
    return verify_backup(pipeline.catalog, reader, manifest, progress=progress, stop=stop, now=clock(), trust=trust)


def verify_parts(
    pipeline: Pipeline, set_id: str, *, progress: Progress, stop: Stop, clock: Clock, trust: Trust | None = None
) -> tuple[Verification, ...]:
    """Read every part of a set back (see :func:`verify_part`)."""
    parts = pipeline.catalog.set(set_id).parts
    return tuple(
        verify_part(pipeline, part.target, part.backup, progress=progress, stop=stop, clock=clock, trust=trust)
        for part in parts
    )
