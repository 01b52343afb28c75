"""What is asked of a continuous log archive (see ``contracts.Lookup.archive``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from include.engine.model import ArchiveReach, Check, Manifest


class Archive(Protocol):
    """A target's continuous log archive in the bucket: what makes recovery between two backups possible."""

    def audit(self, kept: Sequence[Manifest], clock: Callable[[], datetime]) -> Sequence[Check]:
        """Walk the archive from each kept backup to its end, in the bucket itself; name every gap."""
        ...

    def reach(self, kept: Sequence[Manifest]) -> ArchiveReach:
        """Say, from the bucket alone, how far each kept backup can be rolled forward."""
        ...

    def expire(self, kept: Sequence[Manifest], *, dry_run: bool) -> int:
        """Remove what no kept backup needs; give the bytes freed (or that would be)."""
        ...


@runtime_checkable
class ReadsBack(Protocol):
    """An archive whose bytes no verification of a backup reads, because no manifest names them."""

    def read_back(self, identities: Sequence[str], clock: Callable[[], datetime]) -> Sequence[Check]:
        """Read a part of it and compare; day after day another one, until all of it was read.

        :param identities: age secret keys; what they cannot open is left out
        """
        ...


LOG = "log"  # the check of what a backup needs at once


@runtime_checkable
class ReadsLogOf(Protocol):
    """An archive that can read back what one backup needs of it."""

    def read_log_of(self, manifest: Manifest, identities: Sequence[str], go_on: Callable[[], None]) -> Sequence[Check]:
        """Read that and compare (the check :data:`LOG`), and say how far the log goes on from there (any other check).

        Nothing when nothing was ever archived.

        :param identities: age secret keys; without any, what is encrypted is not read, and a check's detail says so
        :param go_on: called before each piece; raises when the work was asked to stop
        """
        ...
