"""Verify: read a set back and compare it with its manifests.  No key is needed: what is compared is what is stored.

No manifest names the objects of a log archive.  What a backup needs of them is read by :func:`read_log`, which needs the key when
the log is encrypted.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from include.engine.archiving import LOG, ReadsLogOf
from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Interrupted, MainstayError, TransientError
from include.engine.model import Check, Target, Verdict, Verification
from include.engine.store.commits import Commits
from include.engine.store.rereading import Trust
from include.engine.store.vault import VaultReader
from include.engine.store.verify import verify_backup, verify_set
from include.engine.verbs.pipeline import Pipeline, Terms

LATELY = Trust()  # what the verification that ends a backup believes


def check_set(pipeline: Pipeline, set_id: str) -> tuple[Check, ...]:
    """Check that a set is whole: every part's manifest is there and is the one that it was sealed with."""
    return verify_set(Commits(pipeline.catalog), pipeline.catalog.set(set_id))


def verify_part(
    pipeline: Pipeline,
    target: Target,
    backup: str,
    *,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    trust: Trust | None = None,
    besides: Sequence[Check] = (),
) -> Verification:
    """Read the objects of one backup back and record what was found.

    :param trust: do not read again what backups share and was read lately; read everything when it is None
    :param besides: what was found of its log (see :func:`read_log`): damage there is damage of the backup
    :raises NotFound: when there is no such backup
    """
    manifest = pipeline.catalog.backup(target, backup)
    reader = VaultReader(pipeline.catalog.bucket)
    return verify_backup(
        pipeline.catalog, reader, manifest, progress=progress, stop=stop, now=clock(), trust=trust, besides=besides
    )


class LogRead(Struct, frozen=True, kw_only=True):
    """What was found of the log that a backup needs.

    :param damage: of what it needs at once: damage of the backup itself
    :param onward: how far the log goes on from there: a gap fails recovery to later points only
    :param unread: why nothing was read, for people; empty when something was, or there is no log to read
    """

    damage: tuple[Check, ...] = ()
    onward: tuple[Check, ...] = ()
    unread: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        return (*self.damage, *self.onward)


def read_log(pipeline: Pipeline, target: Target, backup: str, *, progress: Progress, stop: Stop) -> LogRead:
    """Read back what one backup needs of its target's log archive, and follow the log from there.

    :raises NotFound: when there is no such backup
    """
    archive = pipeline.lookup.archive(target)
    if archive is None:
        return LogRead()
    if not isinstance(archive, ReadsLogOf):
        return LogRead(unread=f"{target}: its log archive was not read, upkeep follows it")
    manifest = pipeline.catalog.backup(target, backup)
    progress.stage(f"read the log of {target} {backup}")
    try:
        found = archive.read_log_of(manifest, pipeline.terms.get(target, Terms()).identities, stop.check)
    except Interrupted:
        raise
    except MainstayError as error:
        verdict = Verdict.UNVERIFIED if isinstance(error, TransientError) else Verdict.FAIL
        return LogRead(onward=(Check(name=f"{target}: log", verdict=verdict, detail=str(error)),))
    if not found:
        return LogRead(unread=f"{target}: no log was ever archived, so none was read: recovery ends with the backup")
    named = [msgspec.structs.replace(check, name=f"{target}: {check.name}") for check in found]
    return LogRead(
        damage=tuple(one for one, check in zip(named, found, strict=True) if check.name == LOG),
        onward=tuple(one for one, check in zip(named, found, strict=True) if check.name != LOG),
    )


def verify_parts(
    pipeline: Pipeline, set_id: str, *, progress: Progress, stop: Stop, clock: Clock, trust: Trust | None = None
) -> tuple[Verification, ...]:
    """Read every part of a set back (see :func:`verify_part`)."""
    parts = pipeline.catalog.set(set_id).parts
    return tuple(
        verify_part(pipeline, part.target, part.backup, progress=progress, stop=stop, clock=clock, trust=trust)
        for part in parts
    )
