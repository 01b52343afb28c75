"""The sweep on a real PostgreSQL with a standby and on its bucket: every default rule that can be made true here, and its end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.engine import lookout
from include.engine.contracts import Connection
from include.engine.health.findings import State
from include.engine.model import DrillReport, Target, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer
from tests.cli import paper
from tests.integration.sweeping import Sweeping, clock, later, with_password

pytestmark = pytest.mark.integration

MOST = 20  # connections


class Pair:
    """A primary and its standby."""

    def __init__(self, primary: PostgresServer, standby: StandbyServer) -> None:
        self.primary, self.standby = primary, standby
        self.known = Connection(
            host=primary.host,
            port=primary.port,
            login=BACKUP_ROLE,
            password=primary.create_backup_role(),
            schema="postgres",
        )

    def sql(self, statement: str) -> None:
        with self.primary.connect() as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def sessions(self, count: int, statement: str = "begin; select 1") -> Iterator[list[psycopg.Connection]]:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(contextlib.closing(self.primary.connect())) for _ in range(count)]
            for one in opened:
                one.execute(statement)
            yield opened


@pytest.fixture(scope="module")
def pair(sandbox: Sandbox) -> Iterator[Pair]:
    primary = PostgresServer(sandbox, "swept", settings={"max_connections": str(MOST)}).start()
    standby = StandbyServer(primary, "swept-standby").start()
    standby.wait_until_streaming()
    yield Pair(primary, standby)
    standby.stop()
    primary.stop()


@pytest.fixture
def sweeping(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    settings = {
        "postgres": {"main": {"connection": "postgres_main"}},
        "expect": {"postgres": {"standbys": 1}},
    }
    return Sweeping(tmp_path, {"postgres_main": pair.known}, settings)


def test_a_healthy_server_has_no_finding_and_every_metric_that_was_promised(sweeping: Sweeping) -> None:
    report = sweeping.sweep("postgres")
    assert report.findings == ()
    assert report.verdict is Verdict.PASS
    assert report.readings > 25


def test_a_standby_that_stops_is_found_and_its_slot_too_until_it_is_back(sweeping: Sweeping, pair: Pair) -> None:
    pair.standby.stop()
    assert sweeping.until(lambda rules: "postgres-standbys" in rules, "postgres") == {
        "postgres-standbys",
        "postgres-slots-inactive",
    }
    (finding,) = [one for one in sweeping.sweep("postgres").findings if one.rule == "postgres-standbys"]
    assert (finding.value, finding.limit, str(finding.severity)) == (0, 1, "page")
    pair.standby.start()
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_standby_that_does_not_replay_is_late(sweeping: Sweeping, pair: Pair) -> None:
    with pair.standby.connect() as standby:
        standby.execute("select pg_wal_replay_pause()")
        pair.sql("create table if not exists late (n int); insert into late values (1)")
        time.sleep(0.2)
        pair.sql("insert into late values (2)")
        report = sweeping.sweep("postgres")
        lag = [one for look in report.looks for one in look.readings if one.metric == "postgres.replication.lag_bytes"]
        standby.execute("select pg_wal_replay_resume()")
    assert lag[0].value > 0
    assert lag[0].labels == {"standby": "swept-standby"}


def test_a_pile_of_sessions_that_idle_in_transactions_is_found_with_its_cause(sweeping: Sweeping, pair: Pair) -> None:
    from include.engine.health.scaling import scaling

    with pair.sessions(14):
        report = sweeping.sweep("postgres")
        rules = {one.rule for one in report.findings}
        watch = sweeping.watch()
        (row,) = [one for one in scaling(watch.book, report.looks, {}, limits=watch.limits) if one.subject]
    assert rules == {"postgres-idle-in-transaction", "postgres-connections"}
    assert row.verdict is Verdict.FAIL
    assert "idle in a transaction" in row.cause
    sweeping.until(lambda rules: not rules, "postgres")


def test_when_no_connection_is_left_that_is_what_is_told(sweeping: Sweeping, pair: Pair) -> None:
    with pair.sessions(MOST - 4, "select 1"):
        (finding, *_) = sweeping.sweep("postgres").findings
    assert "no connection to spare" in finding.detail or finding.rule == "postgres-connections"
    sweeping.until(lambda rules: not rules, "postgres")


def test_sessions_that_wait_for_a_lock_are_found(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql("create table if not exists held (n int)")
    with pair.sessions(1, "begin; lock table held"), pair.sessions(11, "select 1") as waiting:

        def wait(one: psycopg.Connection) -> None:
            with contextlib.suppress(psycopg.Error):  # it is cancelled
                one.execute("lock table held")

        threads = [threading.Thread(target=wait, args=(one,)) for one in waiting]
        for one in waiting:
            one.autocommit = False
        for thread in threads:
            thread.start()
        sweeping.until(lambda rules: "postgres-lock-waits" in rules, "postgres")
        pair.sql("select pg_terminate_backend(pid) from pg_stat_activity where state like 'idle in transaction%'")
        for one in waiting:
            one.cancel()
        for thread in threads:
            thread.join()
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_setting_that_waits_for_a_restart_is_found(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql("alter system set shared_buffers = '65MB'")
    pair.sql("select pg_reload_conf()")
    sweeping.until(lambda rules: rules == {"postgres-pending-restart"}, "postgres")
    pair.sql("alter system reset shared_buffers")
    pair.sql("select pg_reload_conf()")
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_slot_that_nobody_reads_is_found(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql("select pg_create_physical_replication_slot('forgotten', true)")
    assert sweeping.rules("postgres") == {"postgres-slots-inactive"}
    pair.sql("select pg_drop_replication_slot('forgotten')")
    assert sweeping.rules("postgres") == set()


def test_dead_rows_are_found_until_vacuum_has_been(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql("create table bloated (n int) with (autovacuum_enabled = off)")
    pair.sql("insert into bloated select generate_series(1, 20000)")
    pair.sql("delete from bloated where n % 2 = 0")
    sweeping.until(lambda rules: rules == {"postgres-bloat"}, "postgres")
    pair.sql("vacuum bloated")
    sweeping.until(lambda rules: not rules, "postgres")
    pair.sql("drop table bloated")


def test_a_clock_that_is_five_minutes_off_is_found_and_believed_by_nobody(sweeping: Sweeping) -> None:
    assert "postgres-clock" in sweeping.rules("postgres", clock=later(300))


def test_a_login_that_is_refused_is_one_finding(sweeping: Sweeping, pair: Pair) -> None:
    sweeping.connections.known["postgres_main"] = with_password(pair.known, "n0t-the-passw0rd")
    (finding,) = sweeping.sweep("postgres").findings
    assert finding.rule == "unreachable"
    assert "login and password" in finding.detail
    assert "n0t-the" not in finding.detail


def test_a_connection_that_is_not_defined_is_one_finding(sweeping: Sweeping) -> None:
    del sweeping.connections.known["postgres_main"]
    (finding,) = sweeping.sweep("postgres").findings
    assert "there is no connection postgres_main" in finding.detail


def test_a_server_that_accepts_and_never_answers_costs_its_time_out_only(sweeping: Sweeping, pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        known = Connection(host="127.0.0.1", port=silent.getsockname()[1], login="x", password="y")
        sweeping.connections.known["postgres_main"] = known
        began = time.monotonic()
        (finding,) = sweeping.sweep("postgres").findings
        took = time.monotonic() - began
    assert finding.rule == "unreachable"
    assert took < 12
    sweeping.connections.known["postgres_main"] = pair.known
    report = sweeping.sweep("postgres")
    assert [str(change.kind) for change in report.changes] == ["closed"]


def test_a_server_that_answers_nonsense_is_told(sweeping: Sweeping) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            while True:
                try:
                    peer, _ = odd.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        known = Connection(host="127.0.0.1", port=odd.getsockname()[1], login="x", password="y")
        sweeping.connections.known["postgres_main"] = known
        assert sweeping.rules("postgres") <= {"unreachable", "unread"}
        assert sweeping.rules("postgres")


def test_a_query_in_a_rule_file_is_a_probe_and_may_not_write(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql(
        "create table if not exists orders (n int, state text); insert into orders values (1, 'open'), (2, 'open')"
    )
    rules = sweeping.folder / "own.yaml"
    rules.write_text(
        """
probes:
  open-orders:
    target: postgres/main
    sql: select count(*), state from orders group by state
    metric: shop.orders.open
  writing:
    target: postgres/main
    sql: delete from orders returning 1
    metric: shop.orders.deleted
rules:
  open-orders:
    metric: shop.orders.open
    is: above
    warning: 1
    severity: today
    means: orders are not shipped
    action: ship them, or ask why not
    costs: nothing
    runbook: not-read
"""
    )
    sweeping.path.write_text(sweeping.path.read_text().replace("sweep:\n", "sweep:\n  rules: [own.yaml]\n"))
    report = sweeping.sweep("postgres")
    found = {one.rule: one for one in report.findings}
    assert set(found) == {"open-orders", "unread"}
    assert (found["open-orders"].value, found["open-orders"].labels) == (2, {"state": "open"})
    assert "read-only" in found["unread"].detail or "permission denied" in found["unread"].detail
    pair.sql("drop table orders")


def drilled(at_hours: float, verdict: Verdict) -> DrillReport:
    at = paper.past(at_hours)
    return DrillReport(
        id=f"{at:%Y%m%dT%H%M%SZ}",
        started=at,
        finished=at,
        set_id=None,
        target=None,
        backup=None,
        stages=(),
        checks=(),
        verdict=verdict,
    )


def test_old_sets_and_drills_are_found_in_the_bucket_itself(sweeping: Sweeping) -> None:
    catalog = Catalog(Bucket.open(f"file://{sweeping.folder}/bucket"))
    catalog.record_drill(drilled(24 * 10, Verdict.PASS))
    assert "drills-age" in sweeping.rules("backups")
    catalog.record_drill(drilled(2, Verdict.FAIL))
    assert {"drills-age", "drills-passed"} <= sweeping.rules("backups")
    catalog.record_drill(drilled(1, Verdict.PASS))
    left = {(one.rule, one.labels.get("metric")) for one in sweeping.sweep("backups").findings}
    assert left == {("absent", "backups.set.age"), ("absent", "backups.age")}
    catalog.bucket.create(f"{Target.parse('postgres/main')}/backups/20261123T020000Z/manifest.json", b"{not json")
    assert "backups-unreadable" in sweeping.rules("backups")


def test_what_is_recovering_is_not_red_and_closes_in_its_time(sweeping: Sweeping, pair: Pair) -> None:
    sweeping.path.write_text(sweeping.path.read_text().replace("settle: 0s", "settle: 10m"))
    pair.sql("select pg_create_physical_replication_slot('forgotten', true)")
    sweeping.rules("postgres")
    assert "postgres-slots-inactive" in sweeping.rules("postgres", clock=later(601))
    pair.sql("select pg_drop_replication_slot('forgotten')")
    recovering = sweeping.sweep("postgres", clock=later(602))
    slots = [one for one in recovering.findings if one.rule == "postgres-slots-inactive"]
    assert [one.state for one in slots] == [State.RECOVERING]
    closed = sweeping.sweep("postgres", clock=later(602 + timedelta(minutes=11).total_seconds()))
    assert "postgres-slots-inactive" not in {one.rule for one in closed.findings}
    assert clock() < closed.at
