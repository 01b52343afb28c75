"""What a source says of things that its owner does not want in backups."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msgspec import Struct


class LeftOut(Struct, frozen=True, kw_only=True):
    """What is on the live system and in no backup of a target.

    :param gaps: what the inventory does not know
    :param on_purpose: what it names under ``exclude``
    """

    gaps: tuple[str, ...] = ()
    on_purpose: tuple[str, ...] = ()


@runtime_checkable
class Excludes(Protocol):
    """A source whose target can name in the inventory what is left out on purpose."""

    def left_out(self) -> LeftOut:
        """Name all that no backup holds, asked at once."""
        ...
