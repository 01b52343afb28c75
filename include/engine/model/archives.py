"""What a continuous log archive makes recoverable, between backups and behind the newest one."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.model.verdicts import Verdict


class RecoverableWindow(Struct, frozen=True, kw_only=True):
    """Points that can be recovered to along one line of history: from the end of a backup to the end of the log behind it.

    :param line: which history, such as ``timeline 1``
    :param to_time: up to when everything that was committed comes back
    """

    backup: str
    line: str
    from_time: datetime
    to_time: datetime
    from_position: str
    to_position: str


class ArchiveReach(Struct, frozen=True, kw_only=True):
    """How far an archive reaches, walked in the bucket.

    :param verdict: PASS when it is whole, FAIL when something is missing, UNVERIFIED when there was no backup to walk from
    :param newest: when its newest object was stored; None when nothing was ever archived
    :param complete_at: the last moment at which the archiver found that the archive had everything its server had written
    :param missing: what a kept backup needs and the archive has not
    """

    verdict: Verdict
    windows: tuple[RecoverableWindow, ...] = ()
    newest: datetime | None = None
    complete_at: datetime | None = None
    missing: tuple[str, ...] = ()
