"""Rows come back: in the same ring, beside it, elsewhere, by every way there is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from include.engine.contracts import Stop
from include.engine.errors import NotFound, Refused, Unsupported
from include.engine.model import DestinationKind, RestorePlan, Verdict
from include.engine.sandbox.home import Home
from include.engine.systems.cassandra import into_sandbox
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.control import Nodetool
from include.engine.systems.cassandra.keyspaces import fill
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.verbs import drill
from include.engine.verbs import restore as restores
from tests.integration.cassandra.estate import TARGET, Estate, Told, now, rows

pytestmark = pytest.mark.integration

EVENTS, SESSIONS, USERS = "user_events.user_events", "user_events.user_sessions", "spark_streams.created_users"


class Watched(Nodetool):
    """A nodetool of which it is known how long its commands may take."""

    longest: ClassVar[dict[str, float]] = {}

    def run(self, *arguments: str) -> str:
        """Run a command."""
        self.longest[arguments[0]] = self._timeout
        return super().run(*arguments)


def test_a_drill_restores_into_a_node_of_its_own_and_proves_every_table(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(into_sandbox, "Nodetool", Watched)
    estate.backup(keyspaces=["user_events", "spark_streams"])
    pipeline = estate.pipeline()
    report = drill.drill(pipeline, drill.choose(pipeline), drill_id="d1", progress=Told(), stop=Stop(), clock=now)
    assert {check.name: check.detail for check in report.checks if check.verdict is not Verdict.PASS} == {}
    assert report.verdict is Verdict.PASS
    assert any("sstableverify" in check.name for check in report.checks)
    assert (
        Watched.longest["verify"] > 3600
    )  # every row of a table of some hundred GB is read: it must not be called overload
    assert report.rto_seconds


def test_truncated_and_dropped_tables_come_back_row_for_row(estate: Estate, cql: Cql) -> None:
    before = {table: rows(cql, table) for table in (EVENTS, SESSIONS, USERS)}
    estate.backup(keyspaces=["user_events", "spark_streams"])
    cql.rows(f"TRUNCATE {EVENTS}", timeout=60)
    cql.rows("DROP KEYSPACE spark_streams", timeout=60)
    restored = estate.restore(confirm="cassandra_admin")
    assert {table: rows(cql, table) for table in before} == before
    assert restored.verdict is Verdict.PASS
    assert restored.detail["method"] == "import"
    found = cql.rows("SELECT * FROM user_events.user_events WHERE event_type = 'login'")
    assert len(found) == sum('"event_type": "login"' in row for row in before[EVENTS])
    assert cql.rows("SELECT * FROM user_events.user_sessions WHERE duration > 10 LIMIT 5 ALLOW FILTERING")


def test_a_keyspace_comes_back_under_another_name_beside_the_living_one(estate: Estate, cql: Cql) -> None:
    estate.backup(keyspaces=["user_events"])
    then = rows(cql, EVENTS)
    fill(cql, events=20, sessions=0, users=1, seed=7)
    living = rows(cql, EVENTS)
    try:
        restored = estate.restore(only=["user_events"], rename={"user_events": "drill_copy"})
        assert rows(cql, "drill_copy.user_events") == then
        assert rows(cql, EVENTS) == living
        assert restored.verdict is Verdict.PASS
    finally:
        cql.rows("DROP KEYSPACE IF EXISTS drill_copy", timeout=60)


def test_the_same_restore_into_a_sandbox_begins_anew_and_another_gets_a_sandbox_of_its_own(
    estate: Estate, cql: Cql, home: Home
) -> None:
    estate.backup(keyspaces=["user_events", "spark_streams"])
    then = rows(cql, USERS)

    def planned(*only: str) -> RestorePlan:
        return restores.plan(estate.pipeline(), TARGET, destination=DestinationKind.SANDBOX, only=only)

    assert planned("spark_streams").would_overwrite == ()
    sandbox = home.sandbox(planned("spark_streams").destination.name)
    assert sandbox.name != planned(SESSIONS).destination.name != planned("user_events").destination.name
    server = CassandraServer(sandbox, "restored", jolokia=False)
    try:
        for _ in range(2):
            assert estate.restore(destination=DestinationKind.SANDBOX, only=["spark_streams"]).verdict is Verdict.PASS
            with server.connect() as there:
                assert rows(there, USERS) == then
                tables = there.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'spark_streams'")
                assert [row["table_name"] for row in tables] == ["created_users"]
                there.rows("INSERT INTO spark_streams.created_users (id) VALUES (uuid())")
                there.rows("CREATE TABLE spark_streams.mine (k int PRIMARY KEY)")
            (told,) = planned("spark_streams").would_overwrite
            assert sandbox.name in told
            assert planned(SESSIONS).would_overwrite == ()
    finally:
        sandbox.destroy()


def test_sstableloader_brings_one_table_back_from_the_bucket_alone(
    estate: Estate, cql: Cql, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.backup(keyspaces=["user_events"])
    then = rows(cql, SESSIONS)
    connection = msgspec.structs.replace(estate.server.connection(), extra={})
    uri = msgspec.json.encode({"conn_type": "cassandra", **msgspec.to_builtins(connection)}).decode()
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", uri)
    try:
        restored = estate.restore(
            "elsewhere", pipeline=estate.bare(), only=[SESSIONS], rename={"user_events": "loaded"}
        )
        assert restored.detail["method"] == "sstableloader"
        assert rows(cql, "loaded.user_sessions") == then
        assert restored.verdict is Verdict.PASS
    finally:
        cql.rows("DROP KEYSPACE IF EXISTS loaded", timeout=60)


def test_files_are_laid_down_in_a_directory_as_sstableloader_wants_them(estate: Estate, tmp_path: Path) -> None:
    manifest = estate.backup(keyspaces=["user_events"])
    place = tmp_path / "there"
    estate.restore(destination=DestinationKind.DIRECTORY, path=str(place), only=[EVENTS])
    assert place.stat().st_mode & 0o777 == 0o700  # rows are in it
    folders = {path.relative_to(place).parts[1:3] for path in place.rglob("*-Data.db")}
    assert folders == {("user_events", "user_events")}
    assert "CREATE TABLE user_events.user_events" in (place / "schema.cql").read_text()
    assert manifest.id in (place / "RESTORE.md").read_text()


def test_a_table_that_holds_rows_is_not_touched_without_its_clusters_name(estate: Estate, cql: Cql) -> None:
    estate.backup(keyspaces=["user_events"])
    with pytest.raises(Refused, match=r"holds rows in user_events\.user_events"):
        estate.restore()
    assert rows(cql, EVENTS)


def test_a_part_that_the_backup_has_not_is_named(estate: Estate) -> None:
    estate.backup(keyspaces=["user_events"])
    with pytest.raises(NotFound, match=r"user_events\.nothing"):
        estate.restore(only=["user_events.nothing"])


def test_a_time_between_two_snapshots_is_refused_with_the_moments_there_are(estate: Estate) -> None:
    estate.backup(keyspaces=["user_events"])
    with pytest.raises(Unsupported) as refused:
        estate.restore(point="2026-11-23T02:00:00Z")
    assert "20261123T020001Z" in refused.value.hint
