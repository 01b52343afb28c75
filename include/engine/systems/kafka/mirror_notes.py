"""What a mirror's runs note on the copy: when it was proved last, and when and why it was failed over to.

A note is a group of its own that commits a text to the topic of MirrorMaker's own notes.  It is on the copy because that is what
is left on the day; Kafka forgets it a week after it was written (``offsets.retention.minutes``), so one that is not there is
that old, or never was.
"""

from __future__ import annotations

from datetime import datetime

from include.engine.systems.kafka.client import TP, Admin
from include.engine.systems.kafka.settings import Mirror
from include.engine.systems.kafka.topology import notes_of

_LONGEST = 1000  # characters: brokers take 4 KiB


def proved(admin: Admin, name: str, mirror: Mirror, at: datetime) -> None:
    """Note that everything that the source had at *at* was on the copy, and was compared."""
    _write(admin, _group("proved", name), mirror, at.isoformat())


def last_proof(admin: Admin, name: str, mirror: Mirror) -> datetime | None:
    """Give when a mirror was proved last; nothing when it never was, or longer ago than a note lasts."""
    found = _read(admin, _group("proved", name), mirror)
    return datetime.fromisoformat(found) if found else None


def stopped(admin: Admin, name: str, mirror: Mirror, why: str) -> None:
    """Note when and why a mirror was stopped."""
    _write(admin, _group("stopped", name), mirror, why)


def why_stopped(admin: Admin, name: str, mirror: Mirror) -> str:
    """Give what was noted when a mirror was stopped; empty when nothing was, or long ago."""
    return _read(admin, _group("stopped", name), mirror)


def resumed(admin: Admin, name: str) -> None:
    """Forget why it was stopped."""
    admin.delete_groups([_group("stopped", name)])


def _group(what: str, name: str) -> str:
    return f"mainstay-mirror-{what}-{name}"


def _write(admin: Admin, group: str, mirror: Mirror, text: str) -> None:
    admin.commit(group, {TP(notes_of(mirror), 0): (0, text[:_LONGEST])})


def _read(admin: Admin, group: str, mirror: Mirror) -> str:
    _, text = admin.committed([group]).get(group, {}).get(TP(notes_of(mirror), 0), (0, ""))
    return text
