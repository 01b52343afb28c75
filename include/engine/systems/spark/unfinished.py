"""The note that a checkpoint is being restored: what an attempt has left that did not come to its end, its retry may throw away."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from include.engine.model import Manifest
from include.engine.store.bucket import Bucket
from include.engine.systems.spark.journal import FOLDER, Journal

_KEY = f"{FOLDER}/restoring.json"


class Begun(Struct, frozen=True, kw_only=True):
    """Which restore it is.

    :param generation: of the newest launch then: once somebody has launched after it, what is there is a job's
    """

    target: str
    backup: str
    generation: int


@contextmanager
def noted(bucket: Bucket, manifest: Manifest) -> Iterator[None]:
    """Note it until the context ends well.  Begun when nobody runs on the checkpoint, and before anything is deleted."""
    bucket.upload(_KEY, [msgspec.json.encode(_begun(bucket, manifest))])
    yield
    bucket.delete([_KEY])


def foreign(bucket: Bucket, manifest: Manifest, flows: Collection[str]) -> tuple[str, ...]:
    """Name what lies at the top of a place, and is not what an attempt at the same restore has left there.

    :param flows: of the checkpoint that is restored
    """
    keys = [one.key for one in bucket.list()]
    ours: set[str] = set()
    if _KEY in keys and bucket.read(_KEY) == msgspec.json.encode(_begun(bucket, manifest)):
        ours = {FOLDER, *flows}
    return tuple(sorted({key.split("/", 1)[0] for key in keys} - ours))


def _begun(bucket: Bucket, manifest: Manifest) -> Begun:
    newest = Journal(bucket).newest()
    return Begun(
        target=str(manifest.target), backup=manifest.id, generation=newest.generation if newest is not None else 0
    )
