"""Which timeline the server lives on, where the archive holds more than one line of history.  Pure.

After a restore to an earlier point, or the promotion of a standby that was behind, a timeline leaves another one before that
one's end.  The backups and the log behind the fork stay: nothing that happens from then on can be reached with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from msgspec.structs import replace

from include.engine.errors import NotFound
from include.engine.model import Manifest, RecoveryPoint
from include.engine.systems.postgres.lsn import format_lsn, history_name, route
from include.engine.systems.postgres.selection import Choice, choose_chain, log_after
from include.engine.systems.postgres.wal_audit import Archive, Histories, reach


def follow(
    choice: Choice, manifests: Sequence[Manifest], point: RecoveryPoint, archive: Archive, histories: Histories
) -> Choice:
    """Choose an older backup for the newest point, when only that one leads to the timeline that the server lives on.

    :param choice: the newest backup
    """
    line = _unknown_to(choice.manifest, archive, histories)
    if line is None:
        return choice
    for older in reversed([found for found in manifests if found.id != choice.manifest.id]):
        span = log_after(older)
        if reach(span, line, archive, histories).to_lsn > span.start_lsn:
            with suppress(NotFound):  # its chain is broken
                found = choose_chain(manifests, point, backup=older.id)
                told = f"{choice.manifest.id} is newer than {older.id}, but {_left(choice.manifest, line, histories)}"
                return replace(found, warnings=(*found.warnings, f"{told}; name it to restore what it holds"))
    return choice


def warnings(manifest: Manifest, goal: int, archive: Archive, histories: Histories) -> Iterator[str]:
    """Tell what of the archive does not come back, because the way to the timeline *goal* passes it by."""
    line = _unknown_to(manifest, archive, histories)
    if line is not None:
        yield f"{_left(manifest, line, histories)}: nothing of that comes back; another backup may lead there"
    span = log_after(manifest)
    for stretch in route(span.timeline, span.start_lsn, goal, histories.get(goal, ())) or ():
        if stretch.end is not None and _goes_on(archive, stretch.timeline, stretch.end):
            yield (
                f"timeline {stretch.timeline} was left at {format_lsn(stretch.end)}, and the archive holds more of it: what was "
                "committed there behind that does not come back"
            )


def _unknown_to(manifest: Manifest, archive: Archive, histories: Histories) -> int | None:
    """The timeline that the server lives on, when it is newer than that of a backup and does not descend from it."""
    span = log_after(manifest)
    stored = {
        timeline: max(wal.modified for wal in (*archive.whole.get(timeline, {}).values(), *parts.values()))
        for timeline in archive.timelines
        if (parts := archive.partial.get(timeline, {})) or archive.whole.get(timeline)
    }
    # The one that was stored last: a copy that has archived here by mistake for a while is none that anybody lives on.
    line = max(stored, key=lambda timeline: (stored[timeline], timeline), default=span.timeline)
    known = line <= span.timeline or route(span.timeline, span.start_lsn, line, histories.get(line, ())) is not None
    return None if known else line


def _left(manifest: Manifest, line: int, histories: Histories) -> str:
    if line not in histories:
        return f"the server lives on timeline {line}, of which the archive lacks the history {history_name(line)}"
    before = [fork for fork in histories[line] if fork.timeline <= log_after(manifest).timeline]
    at = f"left timeline {before[-1].timeline} at {format_lsn(before[-1].lsn)}" if before else "branched off"
    return f"the server lives on timeline {line}, which {at}, before {manifest.id} was complete"


def _goes_on(archive: Archive, timeline: int, end: int) -> bool:
    """Whether more of a timeline is stored than up to *end*; a whole segment may hold nothing behind it but zeros."""
    if (archive.newest_number(timeline) or 0) > end // archive.size:
        return True
    part = archive.partial.get(timeline, {}).get(end // archive.size)
    return part is not None and part.valid > end % archive.size
