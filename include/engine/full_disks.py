"""The words by which a system, a server or a store says that a disk is full.  Pure."""

from __future__ import annotations

FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "Check free disk space",  # PostgreSQL's only words when less was written than it asked for
)


def says_full(said: str) -> bool:
    """Whether *said*, an error's text or a log, tells of a full disk."""
    return any(words in said for words in FULL)
