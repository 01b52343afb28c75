"""What the verbs ask of a system that is a stream: it reads a log, writes tables, and keeps a checkpoint of how far it is.

Besides being backed up and restored like every target, a stream can tell what became of the records that it had read, and
it can be resumed beside a restored log and restored tables, which is what proves that a pipeline came back.  Before either is
overwritten it rests.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from msgspec import Struct

from include.engine.contracts import Clock, Connection, RestoreJob
from include.engine.model import Check, Cut, Reconciled, Restored, RestorePlan


@runtime_checkable
class Reconciles(Protocol):
    """A source that can tell what became of the records that it had read when it was frozen."""

    def reconcile(self, cut: Cut) -> Sequence[Reconciled]:
        """Look at a window of records before *cut*, flow by flow.

        :raises MainstayError: when the log or the tables cannot be read
        """
        ...


@runtime_checkable
class Rests(Protocol):
    """A restore engine whose destination is run on by somebody who reads and writes what other parts of a set restore."""

    def rest(self, plan: RestorePlan, clock: Clock) -> None:
        """See that nobody runs on the destination of *plan*, and that nobody begins to until a person wishes it.

        Called before the first part of a set is written, so that this one's turn finds nobody there.

        :raises Refused: when somebody runs on it
        """
        ...


class Resumed(Struct, frozen=True, kw_only=True):
    """A stream that runs again beside what was restored, has replayed, and was checked."""

    restored: Restored
    checks: Sequence[Check]


@runtime_checkable
class Resumes(Protocol):
    """A restore engine that can run its stream again."""

    def resume(self, job: RestoreJob, *, log: Connection, tables: Connection) -> AbstractContextManager[Resumed]:
        """Restore the checkpoint into a sandbox, run the stream from it until it has replayed, and send one marked record through.

        ``job.moved`` says where the checkpoint's positions are in the restored log.  The stream ends with the context.

        :param log: the restored log
        :param tables: the restored tables
        """
        ...
