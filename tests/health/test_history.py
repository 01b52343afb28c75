"""The history: on a file and on a real PostgreSQL, thinned with age, quick enough for reports, and one voice for two sweeps."""

from __future__ import annotations

import math
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.health.findings import Advanced, advance, verdict_of
from include.engine.health.history import History, SeriesName
from include.engine.health.looks import Look
from include.engine.health.tables import points, series, transaction
from include.engine.health.thinning import STEPS
from include.engine.model import Verdict
from include.engine.systems.postgres.server import PostgresServer
from tests.health.making import NOW, SETTLE, judged, look, reading

Open = Callable[[], History]


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.integration)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """How to open the same history again."""
    if request.param == "file":
        yield lambda: History.in_file(tmp_path / "history.sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    database: str = request.getfixturevalue("database")
    known = Connection(host=server.host, port=server.port, login="postgres", password=server.password, schema=database)
    yield lambda: History.in_postgres(known)


def swept(history: History, *looks: Look, minutes: float = 0) -> Advanced:
    now = NOW + timedelta(minutes=minutes)
    found = judged(*looks, at=now)
    return history.conclude(
        looks,
        lambda known: advance(known, found, now=now, settle=SETTLE, team="ops"),
        lambda advanced: verdict_of(advanced.findings, looked=True),
        now=now,
        seconds=0.5,
    )


def at(minutes: float, value: float, **labels: str) -> Look:
    return look(reading(value, at=NOW + timedelta(minutes=minutes), **labels))


def test_a_later_process_finds_the_findings_and_the_readings(opener: Open) -> None:
    assert [str(one.kind) for one in swept(opener(), at(0, 10, disk="ü")).changes] == ["opened"]
    assert swept(opener(), at(5, 10, disk="ü"), minutes=5).changes == []
    again = opener()
    (finding,) = again.alive()
    assert finding.labels == {"disk": "ü"}
    found = again.points(["box.load"], NOW - timedelta(days=1))
    assert found == {
        SeriesName("box/one", "box.load", '{"disk":"ü"}'): [(NOW.timestamp(), 10), (NOW.timestamp() + 300, 10)]
    }
    (newest,) = again.newest(NOW - timedelta(days=1), until=NOW + timedelta(days=1))
    assert newest == ("box/one", reading(10, at=NOW + timedelta(minutes=5), disk="ü"))
    last = again.last_sweep()
    assert last is not None
    assert (last.verdict, last.readings) == (Verdict.FAIL, 1)


def test_two_sweeps_at_once_tell_a_change_once(opener: Open) -> None:
    opener()
    told: list[Advanced] = []
    threads = [threading.Thread(target=lambda: told.append(swept(opener(), at(0, 10)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert sum(len(one.changes) for one in told) == 1
    claimed = [len(opener().claim("mail", NOW)) for _ in range(2)]
    assert claimed == [1, 0]


def test_a_receiver_is_told_what_it_missed_and_others_not_again(opener: Open) -> None:
    history = opener()
    swept(history, at(0, 10))
    mail, chat = history.claim("mail", NOW), history.claim("chat", NOW)
    history.told("mail", list(mail), NOW)
    history.give_back("chat", list(chat))
    later = NOW + timedelta(minutes=5)
    assert not history.claim("mail", later)
    assert list(history.claim("chat", later)) == list(chat)
    # Whoever claimed it and died does not keep it for ever.
    assert list(history.claim("chat", later + timedelta(minutes=6))) == list(chat)


def filled(history: History, count: int, *, days: float, each: int = 1) -> None:
    """Put readings of *count* series into the history, one every five minutes."""
    start = NOW.timestamp() - days * 86400
    with transaction(history._engine, "the test") as session:
        for number in range(count):
            names = {"subject": f"box/{number}", "metric": "box.load", "labels": "{}", "unit": "1"}
            key = session.execute(insert(series).values(**names)).inserted_primary_key
            assert key is not None
            steps = range(0, int(days * 288), each)
            rows = [{"series": key[0], "at": start + step * 300, "value": float(step * 7919 % 1013)} for step in steps]
            session.execute(insert(points), rows)


def test_a_week_of_every_reading_is_queried_within_a_second(opener: Open) -> None:
    history = opener()
    filled(history, 120, days=7)  # the demo's
    history.thin(NOW)
    took = [math.inf]
    while min(took) >= 1.0 and len(took) < 12:  # the best of some: what else this machine does is none of its business
        began = time.monotonic()
        found = history.points(["box.load"], NOW - timedelta(days=7))
        took.append(time.monotonic() - began)
    assert min(took) < 1.0
    assert len(found) == 120
    assert 120 * 2 * 288 < sum(map(len, found.values())) < 120 * 7 * 288 * 0.6


def test_what_has_not_grown_old_since_the_last_time_is_not_looked_at_again(opener: Open) -> None:
    history = opener()
    filled(history, 2, days=3)
    assert history.thin(NOW) > 0
    assert history.thin(NOW + timedelta(minutes=5)) == 0  # half an hour grows old at once
    assert history.thin(NOW + timedelta(minutes=35)) > 0
    assert history.thin(NOW + timedelta(minutes=35)) == 0


def test_a_database_that_is_full_is_told_and_what_was_in_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    swept(History.in_file(path), at(0, 1))
    full = History.in_file(path)

    @event.listens_for(full._engine, "connect")
    def _no_page_more(raw: Any, _record: Any) -> None:
        raw.execute("PRAGMA max_page_count=1")  # as many as there are: SQLite then says what it says of a full disk

    many = [at(5, 1, disk=f"{number:0200}") for number in range(400)]
    with pytest.raises(Unreachable, match="full"):
        swept(full, *many, minutes=5)
    assert len(History.in_file(path).newest(NOW - timedelta(days=1), until=NOW + timedelta(days=1))) == 1


def test_what_is_old_keeps_its_extremes(opener: Open) -> None:
    history = opener()
    filled(history, 2, days=20)
    before = history.points(["box.load"], NOW - timedelta(days=30))
    removed = history.thin(NOW)
    after = history.points(["box.load"], NOW - timedelta(days=30))
    assert removed == sum(map(len, before.values())) - sum(map(len, after.values()))
    assert history.thin(NOW) == 0
    young = NOW.timestamp() - STEPS[0][0].total_seconds()
    for name, all_ in before.items():
        kept = after[name]
        assert [one for one in kept if one[0] >= young] == [one for one in all_ if one[0] >= young]
        assert len(kept) < len(all_) / 3
        step = STEPS[1][1].total_seconds()
        old = NOW.timestamp() - STEPS[1][0].total_seconds()
        slots = {one[0] // step for one in all_ if one[0] < old - step}
        for slot in slots:
            was = [value for when, value in all_ if when // step == slot and when < old]
            stays = [value for when, value in kept if when // step == slot and when < old]
            assert (min(was), max(was)) == (min(stays), max(stays))
            assert len(stays) <= 2


def test_only_we_may_read_the_file(tmp_path: Path) -> None:
    swept(History.in_file(tmp_path / "there" / "history.sqlite"), at(0, 1))
    for file in (tmp_path / "there").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_database_that_is_gone_is_named_without_its_password() -> None:
    gone = Connection(host="127.0.0.1", port=1, login="mainstay", password="s3cr3t-of-theirs", schema="x")
    with pytest.raises(Unreachable, match=r"PostgreSQL at 127\.0\.0\.1:1") as caught:
        History.in_postgres(gone)
    assert "s3cr3t" not in str(caught.value) + repr(caught.value.__cause__)


def test_what_a_clock_that_was_ahead_has_noted_is_not_the_newest_until_that_time_has_come(opener: Open) -> None:
    history = opener()
    swept(history, at(24 * 60, 1), minutes=24 * 60)
    swept(history, at(5, 10), minutes=5)
    now = NOW + timedelta(minutes=6)
    (newest,) = history.newest(now - timedelta(minutes=20), until=now + timedelta(minutes=10))
    assert newest == ("box/one", reading(10, at=NOW + timedelta(minutes=5)))
    last = history.last_sweep()
    assert last is not None
    assert last.at == NOW + timedelta(minutes=5)
