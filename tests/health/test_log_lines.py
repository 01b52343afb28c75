"""Error lines grouped by what they say: golden lines of the logs that there are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.engine.health import log_lines
from include.engine.health.log_lines import cut_off, grouped, tails, template
from include.engine.model import Verdict
from include.engine.verbs import checklist_chapters

LINES = """\
2026-11-23 02:00:01.123 UTC [417] 28P01mainstay@shop/app FATAL:  password authentication failed for user "ada"
2026-11-23 02:00:07.456 UTC [512] 28P01mainstay@shop/app FATAL:  password authentication failed for user "bob"
2026-11-23T03:10:00.1Z error in 4 ms ERROR [ReadStage-2] reading /var/lib/cassandra/data/ks/nb-12-big-Data.db at 127.0.0.1:9042
2026-11-23T03:12:00.1Z error in 9 ms ERROR [ReadStage-7] reading /var/lib/cassandra/data/ks/nb-99-big-Data.db at 127.0.0.2:9042
2026-11-22 01:00:00 ERROR too old to matter
2026-11-23 04:00:00 INFO no ERRORS here, all is well
2026-11-23 05:00:00 ERROR login with password=hunter2 token: abc failed
    ERROR without a time
"""


SINCE = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_lines_that_say_the_same_are_one_group_with_count_first_and_last() -> None:
    groups = grouped("log", LINES.splitlines(), SINCE)
    assert [group.count for group in groups] == [2, 2, 1, 1]
    passwords = next(group for group in groups if "authentication" in group.template)
    assert passwords.first == datetime(2026, 11, 23, 2, 0, 1, tzinfo=UTC)
    assert passwords.last == datetime(2026, 11, 23, 2, 0, 7, tzinfo=UTC)
    assert not any("too old" in group.example for group in groups)
    assert "hunter2" not in str(groups)


def test_a_line_with_a_date_of_no_calendar_counts_with_those_that_carry_no_time() -> None:
    (group,) = grouped(
        "log", ["ERROR invalid date 0000-00-00 00:00:00", "ERROR invalid date 2026-13-41 25:61:61"], SINCE
    )
    assert (group.count, group.first) == (2, None)


@pytest.mark.parametrize(
    "line",
    [
        "password=SECRET1 failed",
        "passwd: 'SECRET1 and more' failed",
        'config {"user": "ada", "password": "SECRET1", "host": "db"}',
        "AWS_SECRET_ACCESS_KEY=SECRET1",
        "sasl.jaas.password = SECRET1;",
        "cannot connect to postgresql://ada:SECRET1@db:5432/shop",
        "401 for Authorization: Bearer SECRET1234.abc-def",
        "x-api-key: SECRET1",
    ],
)
def test_a_secret_in_somebody_elses_log_does_not_get_into_the_report(line: str) -> None:
    (group,) = grouped("log", [f"ERROR {line}"], SINCE)
    assert "SECRET1" not in str(group)
    assert "***" in group.example


def test_a_file_that_is_rotated_away_meanwhile_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(f"ERROR {name}\n")
    there = Path.is_file

    def vanishes(path: Path) -> bool:
        found = there(path)
        if path.name == "a.log":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", vanishes)
    assert list(tails(f"{tmp_path}/*.log", datetime(2020, 1, 1, tzinfo=UTC))) == ["ERROR b.log\n"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("task 4711 failed after 12.5 s", "task <n> failed after <n> s"),
        ("lost 6f1c0e2a-1111-2222-3333-444455556666", "lost <id>"),
        ("cannot open /tmp/a/b.txt", "cannot open <path>"),
        ("peer 10.1.2.3:9042 is gone", "peer <address> is gone"),
    ],
)
def test_names_and_numbers_are_no_part_of_what_a_line_says(line: str, said: str) -> None:
    assert template(line) == said


def test_only_files_that_were_written_to_lately_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("ERROR one\n")
    assert list(tails(f"{tmp_path}/*.log", datetime(2020, 1, 1, tzinfo=UTC))) == ["ERROR one\n"]
    assert list(tails(f"{tmp_path}/*.log", datetime(2100, 1, 1, tzinfo=UTC))) == []


@pytest.mark.parametrize(
    ("first", "cut"),
    [
        ("2026-11-23 04:00:00 INFO begins", ["server.log"]),  # what came before it today was not read
        ("2026-11-21 04:00:00 INFO begins", []),
        ("INFO begins, at a time that nobody knows", ["server.log"]),
    ],
)
def test_a_log_whose_end_does_not_reach_back_a_day_proves_no_day_without_errors(
    first: str, cut: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "MOST_BYTES", 100)
    last = "INFO " + 40 * "x"
    (tmp_path / "server.log").write_text(f"2026-11-21 00:00:00 ERROR it began{60 * 'y'}\n{first}\n{last}\n")
    (tmp_path / "short.log").write_text("2026-11-23 05:00:00 ERROR all of it is read\n")
    pattern = f"{tmp_path}/*.log"
    assert cut_off(pattern, SINCE) == cut
    item, groups = checklist_chapters._errors_of("servers", pattern, SINCE)
    assert item.verdict is (Verdict.UNVERIFIED if cut else Verdict.PASS)
    assert ("server.log" in item.detail) is bool(cut)
    assert [group.example for group in groups] == ["2026-11-23 05:00:00 ERROR all of it is read"]
