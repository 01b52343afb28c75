"""What a source says of things that its owner does not want in backups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Excludes(Protocol):
    """A source whose target can name in the inventory what is left out on purpose."""

    def inventory_exclusions(self) -> Sequence[str]:
        """Name what is on the live system and under ``exclude`` in the inventory."""
        ...
