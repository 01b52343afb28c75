"""A restore starts from the newest backup that was consistent at the wanted point, and refuses what the log cannot reach."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from include.engine.errors import NotFound, Unsupported
from include.engine.model import Cut, Kind, Manifest, RecoveryPoint, SourceIdentity, System, Target
from include.engine.store.bucket import StoredObject
from include.engine.systems.postgres.detail import CheckPoint, PostgresDetail
from include.engine.systems.postgres.lsn import Fork, Segment, format_lsn
from include.engine.systems.postgres.reached import Reached
from include.engine.systems.postgres.recovery import EndedEarly, explain, recovery_settings
from include.engine.systems.postgres.selection import choose_chain, choose_way, reach_along, witness
from include.engine.systems.postgres.wal_audit import Archive
from include.engine.systems.postgres.wal_objects import WalObject

SIZE = 16 << 20
TARGET = Target(System.POSTGRES, "main")
DAY = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def manifest(day: int, *, parent: int | None = None, timeline: int = 1) -> Manifest:
    """The backup of a day: it starts in segment 10 * day and stops 0x100 bytes later."""
    start = 10 * day * SIZE + 0x28
    at = DAY + timedelta(days=day)
    lsn = format_lsn(start - 8)
    detail = PostgresDetail(
        server_version_num=170010,
        timeline=timeline,
        stop_timeline=timeline,
        start_lsn=format_lsn(start),
        stop_lsn=format_lsn(start + 0x100),
        start_wal=Segment.at(start, timeline).name,
        stop_wal=Segment.at(start, timeline).name,
        wal_segment_bytes=SIZE,
        data_checksums=True,
        manifest_checksums="CRC32C",
        compression="zstd",
        compressed_on="server",
        base="base.tar.zst",
        restore_point=f"mainstay_day{day}",
        check=CheckPoint(lsn=format_lsn(start + 0x200), restore_point=f"mainstay_check_day{day}"),
    )
    return Manifest(
        id=f"day{day}",
        target=TARGET,
        kind=Kind.FULL if parent is None else Kind.INCREMENTAL,
        parent=None if parent is None else f"day{parent}",
        started=at - timedelta(minutes=10),
        finished=at,
        recoverable_from=at,
        recoverable_to=at,
        cut=Cut(at=at, position=lsn),
        entries=(),
        source=SourceIdentity(identity="7400000000000000000", version="17.10"),
        detail=msgspec.to_builtins(detail),
    )


FULLS = [manifest(1), manifest(2), manifest(3)]
CHAIN = [manifest(1), manifest(2, parent=1), manifest(3, parent=2), manifest(4)]


@pytest.mark.parametrize(
    ("manifests", "point", "wanted"),
    [
        (FULLS, "latest", ["day3"]),
        (FULLS, "backup", ["day3"]),
        (FULLS, "2026-11-22T02:00:00Z", ["day2"]),
        (FULLS, "2026-11-22T01:59:59Z", ["day1"]),
        (FULLS, "2026-11-22T03:00:00+02:00", ["day1"]),
        (FULLS, "2030-01-01T00:00:00Z", ["day3"]),
        (FULLS, f"position:{format_lsn(20 * SIZE + 0x128)}", ["day2"]),
        (FULLS, f"position:{format_lsn(20 * SIZE + 0x127)}", ["day1"]),
        (FULLS, "name:mainstay_day3", ["day2"]),  # its own backup was not consistent yet at the freeze
        (FULLS, "name:mainstay_check_day3", ["day3"]),
        (FULLS, "name:release", ["day1"]),  # nobody knows when that was
        (CHAIN, "2026-11-23T12:00:00Z", ["day1", "day2", "day3"]),
        (CHAIN, "latest", ["day4"]),
        ([CHAIN[0], CHAIN[2]], "latest", ["day1"]),  # the one in between is gone
    ],
)
def test_the_newest_backup_that_fits_is_chosen(manifests: Sequence[Manifest], point: str, wanted: list[str]) -> None:
    choice = choose_chain(manifests, RecoveryPoint.parse(point))
    assert [found.id for found in choice.chain] == wanted


def test_a_broken_chain_and_an_unknown_name_are_told() -> None:
    assert "day3 is broken" in choose_chain([CHAIN[0], CHAIN[2]], RecoveryPoint.parse("latest")).warnings[0]
    assert "'release'" in choose_chain(FULLS, RecoveryPoint.parse("name:release")).warnings[0]


def test_a_backup_that_was_named_is_taken() -> None:
    choice = choose_chain(FULLS, RecoveryPoint.parse("latest"), backup="day1")
    assert choice.manifest.id == "day1"


@pytest.mark.parametrize(
    ("point", "backup", "message"),
    [
        ("2026-11-01T00:00:00Z", None, "no backup was finished before 2026-11-01"),
        ("position:0/1000", None, "no backup was finished before position:0/1000"),
        ("name:mainstay_day1", None, "no backup was finished before name:mainstay_day1"),
        ("latest", "day9", "there is no backup day9"),
        ("2026-11-21T03:00:00Z", "day3", "no backup was finished before"),
    ],
)
def test_what_no_backup_reaches_is_refused_with_the_window(point: str, backup: str | None, message: str) -> None:
    with pytest.raises(NotFound, match=message) as refused:
        choose_chain(FULLS, RecoveryPoint.parse(point), backup=backup)
    assert "day" in refused.value.hint


def archive(*segments: Segment) -> Archive:
    listed = [
        StoredObject(f"postgres/main/wal/{s.name[:8]}/{s.name}.zst", 9, DAY + timedelta(days=1, minutes=s.number))
        for s in segments
    ]
    return Archive([wal for wal in map(WalObject.parse, listed) if wal is not None], SIZE)


def run(timeline: int, *numbers: int) -> list[Segment]:
    return [Segment(timeline, number, SIZE) for number in numbers]


@pytest.mark.parametrize("point", ["latest", f"position:{format_lsn(13 * SIZE)}", "2026-11-21T02:14:00Z", "name:x"])
def test_a_point_behind_a_gap_is_refused_and_the_segment_is_named(point: str) -> None:
    with pytest.raises(NotFound, match="00000001000000000000000C") as refused:
        choose_way(manifest(1), archive(*run(1, 10, 11, 13, 14)), {}, RecoveryPoint.parse(point))
    assert "with the backup day1 the log reaches" in refused.value.hint


@pytest.mark.parametrize(
    ("point", "stated", "known"),
    [
        ("2026-11-21T02:30:00Z", [], False),  # before the newest byte was stored, which says nothing
        ("2026-11-21T02:30:00Z", [(1, 14 * SIZE, 30)], True),
        ("2026-11-21T02:30:00Z", [(1, 14 * SIZE, 29)], False),  # the archiver stated that too early
        ("2026-11-21T02:30:00Z", [(1, 14 * SIZE + 1, 31)], False),  # the archive has lost what was stated
        ("2026-11-21T02:30:00Z", [(2, 13 * SIZE, 31)], False),  # of another timeline
        (f"position:{format_lsn(14 * SIZE)}", [], True),
        (f"position:{format_lsn(14 * SIZE + 1)}", [(1, 14 * SIZE, 31)], False),
        ("latest", [(1, 14 * SIZE, 31)], False),
        ("name:release", [(1, 14 * SIZE, 31)], False),
    ],
)
def test_the_end_of_the_log_is_the_point_only_when_it_is_known_that_nothing_is_missing(
    point: str, stated: list[tuple[int, int, int]], known: bool
) -> None:
    said = [
        Reached(timeline=timeline, stored=to, at=DAY + timedelta(days=1, minutes=minute))
        for timeline, to, minute in stated
    ]
    found = reach_along(manifest(1), 1, archive(*run(1, 10, 11, 12, 13)), {})
    assert (witness(found, RecoveryPoint.parse(point), said) is not None) is known


@pytest.mark.parametrize("point", ["backup", f"position:{format_lsn(11 * SIZE)}", "2026-11-21T02:11:00Z"])
def test_a_point_before_the_gap_is_reached_with_a_warning(point: str) -> None:
    way = choose_way(manifest(1), archive(*run(1, 10, 11, 13)), {}, RecoveryPoint.parse(point))
    assert way.timeline == 1
    warned = ["00000001000000000000000C" in text for text in way.warnings]
    assert warned == ([] if point == "backup" else [True])


def test_without_any_log_only_the_backup_itself_is_reached() -> None:
    way = choose_way(manifest(1), archive(*run(1, 2, 3)), {}, RecoveryPoint.parse("latest"))
    assert "nothing of the log was archived" in way.warnings[0]
    with pytest.raises(NotFound, match="nothing of the log was archived"):
        choose_way(manifest(1), archive(), {}, RecoveryPoint.parse("2026-11-25T00:00:00Z"))


def test_the_newest_timeline_that_descends_from_the_backup_is_followed() -> None:
    forks = {2: (Fork(1, 12 * SIZE + 5),), 3: (Fork(1, 4 * SIZE),)}
    way = choose_way(manifest(1), archive(*run(1, 10, 11), *run(2, 12, 13), *run(3, 4, 5)), forks, LATEST)
    assert way.timeline == 2


LATEST = RecoveryPoint.parse("latest")


@pytest.mark.parametrize(
    ("point", "chosen"),
    [
        ("latest", {}),
        ("backup", {"recovery_target": "immediate"}),
        ("position:0/16B3748", {"recovery_target_lsn": "0/16B3748"}),
        ("name:before it's late", {"recovery_target_name": "before it's late"}),
        ("2026-11-23T02:00:00+01:00", {"recovery_target_time": "2026-11-23 01:00:00+00:00"}),
    ],
)
def test_recovery_has_one_target_and_it_comes_last(point: str, chosen: dict[str, str]) -> None:
    settings = recovery_settings(RecoveryPoint.parse(point), timeline=3, restore_command="fetch %f %p")
    targets = {k: v for k, v in settings.items() if k in TARGETS}
    assert {k: v for k, v in targets.items() if v} == chosen
    assert list(targets)[len(TARGETS) - len(chosen) :] == list(chosen)
    assert settings["recovery_target_timeline"] == "3"


TARGETS = {"recovery_target", *(f"recovery_target_{kind}" for kind in ("time", "lsn", "name", "xid"))}

LOG = """
LOG:  redo done at 0/5000110 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.04 s
LOG:  last completed transaction was at log time 2026-11-23 02:03:04.5+00
FATAL:  recovery ended before configured recovery target was reached
"""


def test_what_the_log_says_is_explained() -> None:
    point = RecoveryPoint.parse("2026-11-24T00:00:00Z")
    here = Path("/srv/restored")
    ended = explain(LOG, point, here)
    assert isinstance(ended, EndedEarly)
    assert "2026-11-23T02:03:04.500000+00:00" in ended.message
    assert isinstance(
        explain("FATAL:  requested recovery stop point is before consistent recovery point", point, here), NotFound
    )
    assert isinstance(
        explain("FATAL:  requested timeline 2 is not a child of this server's history", point, here), NotFound
    )
    assert explain("LOG:  all is well", point, here) is None


NO_COLLATION = """FATAL:  database locale is incompatible with operating system
DETAIL:  The database was initialized with LC_COLLATE "de_CH.utf8",  which is not recognized by setlocale()."""


@pytest.mark.parametrize(
    ("said", "lacking"),
    [
        ('FATAL:  invalid value for parameter "lc_monetary": "de_CH.utf8"', "the locale de_CH.utf8"),
        (
            NO_COLLATION,
            "the locale de_CH.utf8",
        ),
        ("FATAL:  ICU is not supported in this build", "the ICU library"),
    ],
)
def test_what_this_machine_lacks_is_named_and_nothing_is_tried_again(said: str, lacking: str) -> None:
    found = explain(said, LATEST, Path("/srv/restored"))
    assert isinstance(found, Unsupported)
    assert lacking in found.message
    assert "nothing is wrong with the backup" in found.hint


def test_a_full_disk_is_named_by_the_directory_that_is_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    found = explain("FATAL:  could not write to file: No space left on device", LATEST, tmp_path)
    assert found is not None
    assert str(tmp_path) in found.message
