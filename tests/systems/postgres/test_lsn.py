"""Positions, segment names and timelines are PostgreSQL's own arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.errors import Corrupt, Misconfigured
from include.engine.systems.postgres.lsn import (
    Fork,
    Segment,
    Stretch,
    format_lsn,
    history_name,
    parse_history,
    parse_history_name,
    parse_lsn,
    route,
    valid_segment_size,
)

lsns = st.integers(0, 2**63 - 1).map(lambda lsn: lsn & 0xFFFFFFFFFFFFFFF)
sizes = st.integers(20, 30).map(lambda bits: 1 << bits)
timelines = st.integers(1, 0xFFFFFFFF)


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_writing_and_reading(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize("text", ["", "16", "0/", "/0", "0/123456789", "g/0", "0/0 or 1"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        parse_lsn(text)


@given(st.integers(0, 2**64 - 1), timelines, sizes)
def test_a_segment_survives_its_name_whatever_the_size(lsn: int, timeline: int, size: int) -> None:
    segment = Segment.at(lsn, timeline, size)
    assert Segment.parse(segment.name, size) == segment
    assert segment.start <= lsn < segment.end
    assert segment.next.start == segment.end


@given(st.integers(0, 2**63), timelines, sizes)
def test_names_sort_like_positions(lsn: int, timeline: int, size: int) -> None:
    segment = Segment.at(lsn, timeline, size)
    assert segment.name < segment.next.name


@pytest.mark.parametrize(
    ("lsn", "size", "name"),
    [
        ("0/1000000", 16 << 20, "000000010000000000000001"),
        ("0/FF000000", 16 << 20, "0000000100000000000000FF"),
        ("1/0", 16 << 20, "000000010000000100000000"),
        ("0/100000", 1 << 20, "000000010000000000000001"),
        ("0/FFF00000", 1 << 20, "000000010000000000000FFF"),
        ("3/C0000000", 1 << 30, "000000010000000300000003"),
    ],
)
def test_names_are_those_of_pg_walfile_name(lsn: str, size: int, name: str) -> None:
    assert Segment.at(parse_lsn(lsn), 1, size).name == name


@pytest.mark.parametrize(
    "name",
    [
        "000000010000000000000100",  # 256 segments of 16 MiB make 4 GiB: there is no 0x100
        "000000000000000000000001",  # no timeline 0
        "00000001000000000000000g",
        "000000010000000000000001.partial",
        "00000001",
    ],
)
def test_what_no_server_would_write_is_no_segment(name: str) -> None:
    assert Segment.parse(name) is None


@pytest.mark.parametrize("size", [0, 1, 1 << 19, 3 << 20, 1 << 31])
def test_sizes_that_initdb_refuses_are_invalid(size: int) -> None:
    assert not valid_segment_size(size)


HISTORY = "1\t0/50000A0\tno recovery target specified\n\n# a comment\n3\t0/9000000\tbefore 2026-11-23 02:00:00+00\n"


def test_a_history_file_gives_where_each_timeline_was_left() -> None:
    assert parse_history(HISTORY, where="x") == (
        Fork(1, 0x50000A0, "no recovery target specified"),
        Fork(3, 0x9000000, "before 2026-11-23 02:00:00+00"),
    )


@pytest.mark.parametrize("text", ["", "nonsense", "1 x/y z", "2\t0/5\n1\t0/6\n", "1\t0/6\n2\t0/5\n"])
def test_a_damaged_history_is_corrupt_and_named(text: str) -> None:
    with pytest.raises(Corrupt, match=r"00000004\.history"):
        parse_history(text, where="00000004.history")


@given(timelines)
def test_history_names_survive(timeline: int) -> None:
    assert parse_history_name(history_name(timeline)) == timeline


def test_the_route_follows_the_forks() -> None:
    forks = parse_history(HISTORY, where="x")
    assert route(1, 0x3000000, 4, forks) == (
        Stretch(1, 0x3000000, 0x50000A0),
        Stretch(3, 0x50000A0, 0x9000000),
        Stretch(4, 0x9000000, None),
    )
    assert route(3, 0x6000000, 4, forks) == (Stretch(3, 0x6000000, 0x9000000), Stretch(4, 0x9000000, None))
    assert route(4, 0xA000000, 4, forks) == (Stretch(4, 0xA000000, None),)


def test_there_is_no_route_to_a_timeline_that_left_before_the_backup_or_elsewhere() -> None:
    forks = parse_history(HISTORY, where="x")
    assert route(1, 0x6000000, 4, forks) is None  # timeline 1 was left at 0/50000A0
    assert route(2, 0x5100000, 4, forks) is None  # timeline 2 is no ancestor
