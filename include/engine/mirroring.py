"""What the verbs ``mirror`` and ``failover`` ask of a system that can keep a running copy of a target elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from include.engine.contracts import Clock
from include.engine.model import Check


class MirrorPlan(Struct, frozen=True, kw_only=True):
    """What applying a declared mirror would change."""

    mirror: str
    changes: tuple[str, ...]  # one line each, without secrets; empty when all is as declared
    topics: tuple[str, ...]  # of the source, that match now
    problems: tuple[str, ...] = ()  # what the engine that runs it would refuse
    warnings: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()  # parts that somebody, or a fail-over, has stopped


class MirrorProgress(Struct, frozen=True, kw_only=True):
    """How far a mirror is behind a cut of its source."""

    caught_up: bool
    offsets: int = 0
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()  # causes; waiting would not help


class Mirror(Protocol):
    """A declared, running copy of a target on another cluster.  In ``systems/<system>/mirror.py``."""

    name: str

    def plan(self) -> MirrorPlan:
        """Say what :meth:`apply` would change, validated by the engine that would run it.  Changes nothing."""
        ...

    def apply(self, *, resume: bool = False) -> None:
        """Make it what was declared.  Calling again changes nothing more.

        :param resume: go on with a copy that was stopped
        :raises Refused: when it was stopped and *resume* was not said: the copy may be what the pipeline runs on now
        """
        ...

    def cut(self, clock: Clock) -> dict[str, object]:
        """Note what the source has now, as a document that may cross tasks."""
        ...

    def progress(self, cut: Mapping[str, object]) -> MirrorProgress:
        """Say whether everything up to *cut* is on the copy, exactly; cheap enough to be polled."""
        ...

    def compare(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Compare samples of both sides, record by record."""
        ...

    def move_groups(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Put the source's readers on the copy, each at the record that it would read next.  Needs the source."""
        ...

    def proved(self, cut: Mapping[str, object]) -> None:
        """Note, where a fail-over would find it, that all checks have passed for what the source had at *cut*."""
        ...

    def stop(self, why: str = "") -> None:
        """Stop copying, and keep how far it was.

        :param why: when and why, to be told by :meth:`stopped`; that it cannot be kept is no error
        """
        ...

    def stopped(self) -> str:
        """Say what was stopped, and when and why as far as that is known; empty when nothing was.  Asks nothing of the source."""
        ...
