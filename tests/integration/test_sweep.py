"""The sweep on a real PostgreSQL with a standby and on its bucket: every default rule that can be made true here, and its end."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import psycopg
import pytest

from include.engine import lookout, wiring
from include.engine.contracts import Clock, Connection, Stop
from include.engine.health.findings import State
from include.engine.model import DrillReport, Target, Verdict, backup_id, encode
from include.engine.sandbox.home import Sandbox
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.postgres import heartbeat
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.server import PostgresServer
from include.engine.systems.postgres.standby import StandbyServer
from include.engine.verbs import backup, drill, verify
from tests.cli import paper
from tests.estate import HEARTBEAT, TARGET, Estate, Quiet
from tests.integration.sweeping import Sweeping, clock, later, with_password
from tests.store.making import drill_report

pytestmark = pytest.mark.integration

MOST = 20  # connections
RELOAD = "select pg_reload_conf()"
DAY = 24 * 3600.0


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

    def sql(self, *statements: str) -> None:
        with self.primary.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def set(self, name: str, value: str | None) -> None:
        """Change a setting of the running primary, or take the change back."""
        self.sql(f"alter system {f'set {name} = {value!r}' if value is not None else f'reset {name}'}", RELOAD)

    def segments(self, count: int) -> None:
        """Let the log grow by so many segments."""
        for _ in range(count):
            self.sql("select pg_logical_emit_message(true, 'test', 'the log grows')", "select pg_switch_wal()")

    @contextlib.contextmanager
    def sessions(self, count: int, statement: str = "begin; select 1") -> Iterator[list[psycopg.Connection]]:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(contextlib.closing(self.primary.connect())) for _ in range(count)]
            for one in opened:
                one.execute(statement)
            yield opened


@pytest.fixture(scope="module")
def pair(sandbox: Sandbox) -> Iterator[Pair]:
    settings = {"max_connections": str(MOST), "archive_mode": "on", "archive_command": "true", "max_wal_size": "1GB"}
    primary = PostgresServer(sandbox, "swept", settings=settings).start()
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
    # The primary notices it a moment later, and neither its list of standbys nor that of its slots need be the first.
    sweeping.until(lambda rules: rules == {"postgres-standbys", "postgres-slots-inactive"}, "postgres")
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
    sweeping.tolerate("postgres-replication-lag-bytes", 1000)
    with pair.standby.connect() as standby:
        standby.execute("select pg_wal_replay_pause()")
        pair.segments(1)
        sweeping.until(lambda rules: "postgres-replication-lag-bytes" in rules, "postgres")
        standby.execute("select pg_wal_replay_resume()")
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_replay_that_stands_still_is_late_by_more_with_every_sweep(sweeping: Sweeping, pair: Pair) -> None:
    """The primary would tell the last delay that it has measured, however long ago."""

    def lag(clock: Clock = clock) -> float:
        looks = sweeping.sweep("postgres", clock=clock).looks
        (found,) = [one for look in looks for one in look.readings if one.metric == "postgres.replication.lag"]
        return found.value

    pair.sql("create table if not exists late (n int)", "insert into late values (4)")
    with pair.standby.connect() as standby:
        standby.execute("select pg_wal_replay_pause()")
        pair.segments(1)
        assert lag() < 60
        assert lag(later(400)) >= 400
        assert "postgres-replication-lag" in sweeping.rules("postgres", clock=later(700))
        standby.execute("select pg_wal_replay_resume()")
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_standby_that_replays_late_is_found_with_its_seconds(sweeping: Sweeping, pair: Pair) -> None:
    sweeping.tolerate("postgres-replication-lag", 1)

    def late(rules: set[str]) -> bool:
        pair.sql("select pg_logical_emit_message(true, 'test', 'a commit')")
        return "postgres-replication-lag" in rules

    with pair.standby.connect() as standby:
        standby.autocommit = True
        standby.execute("alter system set recovery_min_apply_delay = '3s'")
        standby.execute(RELOAD)
        pair.sql("create table if not exists late (n int)", "insert into late values (3)")
        sweeping.until(late, "postgres")
        standby.execute("alter system reset recovery_min_apply_delay")
        standby.execute(RELOAD)
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_standby_that_no_commit_waits_for_is_found_when_one_was_declared(sweeping: Sweeping, pair: Pair) -> None:
    sweeping.declare("expect", postgres={"standbys": 1, "synchronous_standbys": 1})
    assert sweeping.rules("postgres") == {"postgres-synchronous-standbys"}
    pair.set("synchronous_standby_names", "*")
    sweeping.until(lambda rules: not rules, "postgres")
    pair.set("synchronous_standby_names", None)
    sweeping.until(lambda rules: rules == {"postgres-synchronous-standbys"}, "postgres")


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


def test_a_transaction_that_stays_open_is_found_until_it_ends(sweeping: Sweeping, pair: Pair) -> None:
    rules_ = {"postgres-long-transaction", "postgres-idle-transaction-age"}
    for rule in rules_:
        sweeping.tolerate(rule, 0.5)
    with pair.sessions(1):
        sweeping.until(lambda rules: rules == rules_, "postgres")
    sweeping.until(lambda rules: not rules, "postgres")


def test_an_archive_command_that_fails_is_found_and_so_is_one_that_was_long_ago(sweeping: Sweeping, pair: Pair) -> None:
    def archives(rules: set[str]) -> bool:
        pair.segments(1)
        return "postgres-archiver-failing" not in rules

    pair.segments(1)
    sweeping.until(archives, "postgres")
    pair.set("archive_command", "false")
    pair.segments(1)
    sweeping.until(lambda rules: "postgres-archiver-failing" in rules, "postgres")
    pair.set("archive_command", None)
    sweeping.until(archives, "postgres")
    sweeping.tolerate("postgres-archiver-age", "5s")  # longer than a sweep takes, on a busy machine too
    sweeping.until(lambda rules: rules == {"postgres-archiver-age"}, "postgres")
    sweeping.until(lambda rules: archives(rules) and not rules, "postgres")


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


def test_a_slot_that_keeps_much_and_then_loses_it_is_found(sweeping: Sweeping, pair: Pair) -> None:
    sweeping.tolerate("postgres-slots-retained", "20MiB")
    sweeping.tolerate("postgres-checkpoints", 5)
    pair.sql("checkpoint")
    sweeping.until(lambda rules: not rules, "postgres")
    pair.sql("select pg_create_physical_replication_slot('forgotten', true)")
    pair.segments(5)
    found = {"postgres-slots-retained", "postgres-slots-inactive", "postgres-checkpoints"}
    sweeping.until(lambda rules: rules == found, "postgres")  # and the standby has all of it
    pair.set("max_slot_wal_keep_size", "48MB")
    pair.sql("checkpoint")
    sweeping.until(lambda rules: "postgres-slots-losing" in rules and "postgres-checkpoints" not in rules, "postgres")
    pair.sql("select pg_drop_replication_slot('forgotten')")
    pair.set("max_slot_wal_keep_size", None)
    sweeping.until(lambda rules: not rules, "postgres")


def test_dead_rows_are_found_until_vacuum_has_been(sweeping: Sweeping, pair: Pair) -> None:
    pair.sql("create table bloated (n int) with (autovacuum_enabled = off)")
    pair.sql("insert into bloated select generate_series(1, 20000)")
    pair.sql("delete from bloated where n % 2 = 0")
    sweeping.until(lambda rules: rules == {"postgres-bloat"}, "postgres")
    pair.sql("vacuum bloated")
    sweeping.until(lambda rules: not rules, "postgres")
    pair.sql("drop table bloated")


def test_transaction_ids_that_are_used_up_are_told_in_percent(sweeping: Sweeping) -> None:
    sweeping.tolerate("postgres-wraparound", 0)
    (finding,) = sweeping.awaited("postgres-wraparound", "postgres")
    assert finding.value is not None
    assert 0 < finding.value < 1
    sweeping.tolerate("postgres-wraparound", 50)
    sweeping.until(lambda rules: not rules, "postgres")


def test_a_clock_that_is_five_minutes_off_is_found_and_believed_by_nobody(sweeping: Sweeping) -> None:
    assert "postgres-clock" in sweeping.rules("postgres", clock=later(300))
    assert "postgres-clock" not in sweeping.rules("postgres")


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
    sweeping.declare("sweep", timeout="3s")
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
    sweeping.declare("sweep", timeout="3s")
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
    sweeping.add_rules(
        "own.yaml",
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
""",
    )
    report = sweeping.sweep("postgres")
    found = {one.rule: one for one in report.findings}
    assert set(found) == {"open-orders", "unread"}
    assert (found["open-orders"].value, found["open-orders"].labels) == (2, {"state": "open"})
    assert "read-only" in found["unread"].detail or "permission denied" in found["unread"].detail
    pair.sql("drop table orders")


def drilled(at_hours: float, verdict: Verdict) -> DrillReport:
    return drill_report(paper.past(at_hours), verdict)


def test_old_sets_and_drills_are_found_in_the_bucket_itself(sweeping: Sweeping) -> None:
    catalog = Catalog(Bucket.open(f"file://{sweeping.folder}/bucket"))
    catalog.record_drill(drilled(24 * 10, Verdict.PASS))
    assert "drills-age" in sweeping.rules("backups")
    catalog.record_drill(drilled(2, Verdict.FAIL))
    assert {"drills-age", "drills-passed"} <= sweeping.rules("backups")
    catalog.record_drill(drilled(1, Verdict.PASS))
    left = {(one.rule, one.labels.get("metric")) for one in sweeping.sweep("backups").findings}
    assert left == {("absent", "backups.set.age"), ("absent", "backups.age"), ("backups-log-unproved", None)}
    catalog.bucket.create(f"{Target.parse('postgres/main')}/backups/20261123T020000Z/manifest.json", b"{not json")
    assert "backups-unreadable" in sweeping.rules("backups")


def test_a_set_that_gets_old_is_damaged_or_loses_its_log_is_found_in_the_bucket_itself(
    sweeping: Sweeping, pair: Pair
) -> None:
    bucket = Bucket.open(f"file://{sweeping.folder}/bucket")
    estate = Estate(pair.primary, bucket, sweeping.folder / "spool")
    sweeping.declare("postgres", main={"connection": "postgres_main", "heartbeat": HEARTBEAT})
    pipeline = wiring.open_pipeline(wiring.load_inventory(sweeping.path), sweeping.connections)
    pipeline.catalog.record_drill(drilled(9 * 24, Verdict.PASS))
    pipeline.catalog.record_drill(drilled(26, Verdict.FAIL))
    assert sweeping.rules("backups") == {"absent", "backups-log-unproved", "drills-age", "drills-passed"}

    def take(clock: Clock) -> str:
        taken = backup_id(clock())
        backup.freeze(pipeline, taken, [TARGET], clock=clock)
        backup.copy(pipeline, taken, TARGET, progress=Quiet(), stop=Stop(), clock=clock)
        backup.seal(pipeline, taken, clock=clock)
        return taken

    with estate.archiving():
        with pair.primary.connect() as connection:
            heartbeat.ensure(connection, HEARTBEAT)
            take(later(-27 * 3600))
            pair.segments(1)
            estate.archived()
            stale = {"backups-set-age", "backups-age", "backups-unread"}
            assert sweeping.rules("backups") == {*stale, "drills-age", "drills-passed"}
            taken = take(clock)  # a new set mends what a set can mend
            heartbeat.beat(connection, HEARTBEAT)
        pair.segments(3)
        estate.archived()
    pair.sql(f"select pg_drop_replication_slot('{estate.slot}')")
    assert sweeping.rules("backups") == {"drills-age", "drills-passed"}
    proved = drill.drill(
        pipeline, drill.choose(pipeline), drill_id=backup_id(clock()), progress=Quiet(), stop=Stop(), clock=clock
    )
    assert proved.verdict is Verdict.PASS, proved.checks
    assert sweeping.rules("backups") == set()
    assert sweeping.rules("backups", clock=later(7 * 3600)) == {"backups-unread"}
    read_back = partial(verify.verify_part, pipeline, TARGET, taken, progress=Quiet(), stop=Stop(), clock=clock)
    assert read_back().verdict is Verdict.PASS
    assert sweeping.rules("backups", clock=later(7 * 3600)) == set()

    sealed = pipeline.catalog.set(taken)
    name = backup_id(later(3600)())
    for verdict, rules in ((Verdict.FAIL, {"backups-set-inconsistent"}), (Verdict.PASS, set())):
        worse = tuple(msgspec.structs.replace(one, verdict=verdict) for one in sealed.checks if one.name != "coverage")
        bucket.upload(f"sets/{name}/manifest.json", [encode(msgspec.structs.replace(sealed, id=name, checks=worse))])
        assert sweeping.rules("backups") == rules
    bucket.delete([f"sets/{name}/manifest.json"])

    segments = sorted(found.key for found in bucket.list(f"{TARGET}/wal") if found.key.endswith(".zst"))
    lost = segments[-2]  # a later one is there, so nobody can say that the log just ends here
    content = bucket.read(lost)
    bucket.delete([lost])
    assert sweeping.rules("backups") == {"backups-log-gap"}
    bucket.create(lost, content)
    assert sweeping.rules("backups") == set()

    entry = pipeline.catalog.backup(TARGET, taken).entries[0]
    content = bucket.read(entry.key)
    (sweeping.folder / "bucket" / entry.key).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert read_back().verdict is Verdict.FAIL
    assert sweeping.rules("backups") == {"backups-verified"}
    (sweeping.folder / "bucket" / entry.key).write_bytes(content)
    assert read_back().verdict is Verdict.PASS
    assert sweeping.rules("backups") == set()


@pytest.mark.parametrize("page", ["README.md", "docs/health.md"])
def test_the_rule_and_the_probe_that_the_pages_show_work_as_they_are_written(
    sweeping: Sweeping, pair: Pair, page: str
) -> None:
    (shown,) = re.findall(r"```yaml\n(probes:\n.*?)```", (wiring.PROJECT / page).read_text(), re.DOTALL)
    pair.sql(
        "create table orders (shipped_at timestamptz)", "insert into orders select null from generate_series(1, 101)"
    )
    sweeping.add_rules("own.yaml", shown)
    (finding,) = sweeping.sweep("postgres").findings
    assert (finding.rule, finding.value, finding.state) == ("orders-unshipped", 101, State.PENDING)  # for: 10m
    pair.sql("update orders set shipped_at = now() where ctid = (select min(ctid) from orders)")
    assert sweeping.rules("postgres") == set()
    pair.sql("drop table orders")


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
