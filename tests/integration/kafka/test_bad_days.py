"""Bad days: each ends in a clear error, or in a backup or restore in which nothing is lost and nothing is doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import (
    Contended,
    Incomplete,
    Interrupted,
    MainstayError,
    NotFound,
    PermanentError,
    Refused,
    TransientError,
    Unauthorized,
    Unreachable,
)
from include.engine.model import DestinationKind, Verdict
from include.engine.sandbox.home import Home
from include.engine.systems.kafka import detail, isolation
from include.engine.systems.kafka.backup import open_source
from include.engine.systems.kafka.client import LATEST, TP, open_admin
from include.engine.systems.kafka.decisions import LOADING
from include.engine.systems.kafka.held import reaches
from include.engine.verbs import backup
from tests.systems.kafka.stand import LOADING as TAKES_ANY_TIME
from tests.systems.kafka.stand import TARGET, Stand, clock, send

pytestmark = pytest.mark.integration


def test_a_topic_that_was_recreated_is_read_anew(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    stand.backup()
    stand.delete(topic)
    _until(lambda: not _exists(stand, topic))
    stand.topic("t")
    stand.produce(topic, 90, start=5000)
    manifest = stand.backup()
    assert any("deleted and created again" in note for note in manifest.notes)
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_topic_that_was_deleted_between_two_runs_comes_back_from_the_older_one(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.topic("stays")
    stand.produce(topic, 30)
    before = stand.seen(topic)
    older = stand.backup()
    stand.delete(topic)
    _until(lambda: not _exists(stand, topic))
    assert topic not in stand.backup().detail["topics"]
    with pytest.raises(NotFound, match=topic):
        stand.restore(only=[topic])
    stand.restore(only=[topic], backup_=older.id)
    assert stand.seen(topic) == before


def test_a_topic_that_is_deleted_after_the_cut_fails_the_backup(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.topic("stays")
    stand.produce(topic, 30)
    set_id = stand.freeze()
    stand.delete(topic)
    _until(lambda: not _exists(stand, topic))
    with pytest.raises(Incomplete, match="deleted after the cut"):
        stand.copy(set_id)
    assert stand.catalog.find(TARGET, set_id) is None


def test_partitions_that_were_added_are_in_the_next_backup(stand: Stand) -> None:
    topic = stand.topic("t", partitions=2)
    stand.produce(topic, 20, partitions=2)
    stand.backup()
    with open_admin(stand.cluster.connection()) as admin:
        admin.client.create_partitions({topic: 4})
        _until(lambda: len(admin.topics([topic])[topic].partitions) == 4)
    stand.produce(topic, 40, partitions=4, start=20)
    manifest = stand.backup()
    assert manifest.detail["new_records"] == 40
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_what_retention_took_before_it_was_saved_is_a_gap_and_is_told(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    stand.backup()
    stand.produce(topic, 10, partitions=1, start=10)
    _delete_before(stand, topic, 15)
    manifest = stand.backup()
    assert manifest.detail["gaps"] == [{"topic": topic, "partition": 0, "start": 10, "stop": 15}]
    assert any("lost to retention" in note for note in manifest.notes)
    plan_warnings = stand.restore(rename={topic: topic + "_back"})
    assert plan_warnings.verdict is Verdict.PASS
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_retention_that_overtakes_the_reader_leaves_a_gap_not_a_silence(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 20, partitions=1)
    set_id = stand.freeze()
    _delete_before(stand, topic, 8)  # after the cut, before the reader comes
    manifest = stand.copy(set_id)
    assert manifest.detail["gaps"] == [{"topic": topic, "partition": 0, "start": 0, "stop": 8}]
    assert manifest.detail["new_records"] == 12


def test_records_after_the_cut_are_not_in_the_backup(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 30)
    before = stand.seen(topic)
    set_id = stand.freeze()
    stand.produce(topic, 30, start=30)
    stand.copy(set_id)
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == before


def test_an_open_transaction_is_not_in_the_backup_and_does_not_hold_it_up(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 5, partitions=1)
    producer = stand.hanging(topic)
    stand.produce(topic, 5, partitions=1, start=5)
    began = time.monotonic()
    manifest = stand.backup()
    assert time.monotonic() - began < 20
    assert manifest.detail["new_records"] == 5
    producer.commit_transaction()
    with open_admin(stand.cluster.connection()) as admin:  # the marker is written a moment later
        _until(lambda: admin.offsets([TP(topic, 0)], LATEST)[TP(topic, 0)] == 12)
    assert stand.backup().detail["new_records"] == 6


def test_a_transaction_that_hangs_over_two_backups_is_told_and_holds_back_what_they_reach(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    producer = stand.hanging(topic)
    stand.produce(topic, 5, partitions=1)
    first, second = stand.backup(), stand.backup()
    assert first.recoverable_to == first.cut.at  # transactions are open at every moment
    assert not any("transaction" in note for note in first.notes)
    assert second.recoverable_to == first.cut.at
    assert any("6 offsets behind a transaction that is open at 0" in note for note in second.notes)
    assert reaches(detail.read(second).detail.held, second.cut.at) == first.cut.at
    short = stand.restore(backup_=second.id, rename={topic: topic + "_short"})
    assert (short.recovered_to, stand.seen(topic + "_short")) == (first.cut.at, {0: []})
    producer.abort_transaction()
    with open_admin(stand.cluster.connection()) as admin:
        _until(lambda: admin.offsets([TP(topic, 0)], LATEST)[TP(topic, 0)] == 7)
    third = stand.backup()
    assert (third.recoverable_to, third.detail["new_records"]) == (third.cut.at, 5)
    # The second was taken at that very moment, and lacks what had been written by then.
    back = stand.restore(point=second.cut.at.isoformat(), rename={topic: topic + "_back"})
    assert back.backup == third.id
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_header_key_that_is_no_text_is_told_with_its_topic_and_offsets(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce_unreadable(topic, 1)
    with pytest.raises(PermanentError, match=f"{topic}-0.*no UTF-8"):
        stand.backup()


def test_an_unreachable_broker_is_told_with_its_address(stand: Stand) -> None:
    with (
        pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"),
        open_admin(Connection(host="127.0.0.1", port=1), patience=1),
    ):
        pass


def test_wrong_credentials_are_told_apart_from_a_broker_that_is_down(stand: Stand) -> None:
    right = stand.cluster.connection(sasl=True)
    with open_admin(right) as admin:
        assert admin.cluster_id() == stand.cluster.cluster_id
    wrong = Connection(login=right.login, password="no", extra=right.extra)
    with pytest.raises(Unauthorized, match="credentials"), open_admin(wrong, patience=4):
        pass


def test_each_of_two_clusters_that_are_asked_at_once_is_told_its_own_trouble(stand: Stand) -> None:
    """As in a sweep: the client says the cause in the log alone, and that is one for all."""
    right = stand.cluster.connection(sasl=True)
    wrong = Connection(login=right.login, password="no", extra=right.extra)
    away = Connection(login=right.login, password="no", extra={**right.extra, "bootstrap.servers": "127.0.0.1:1"})
    before = set(threading.enumerate())

    def trouble(connection: Connection) -> type[BaseException]:
        with pytest.raises(MainstayError) as caught, open_admin(connection, patience=3):
            pass
        return caught.type

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(trouble, [wrong, away])) == [Unauthorized, Unreachable]
    assert set(threading.enumerate()) <= before  # a client that could not be opened has ended


def test_a_broker_that_hangs_takes_no_longer_than_there_is_time(stand: Stand) -> None:
    pid = stand.cluster.nodes[0].pid
    assert pid is not None
    with open_admin(stand.cluster.connection(), patience=1) as admin:
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(Unreachable):
                admin.topics()
        finally:
            os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - began < 8


def test_tls_to_a_port_without_it_is_told(stand: Stand) -> None:
    extra = stand.cluster.connection().extra | {"security.protocol": "SSL"}
    with pytest.raises(Unauthorized, match="TLS"), open_admin(Connection(extra=extra), patience=2):
        pass


def test_a_password_is_in_no_argument_list_and_no_manifest(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 3000)
    password = stand.cluster.password
    seen: list[bytes] = []

    def look() -> None:
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                seen.append((process / "cmdline").read_bytes())

    stand.said.on_advance = look
    stand.source = lambda target: open_source(TARGET, stand.settings, stand.cluster.connection(sasl=True))  # type: ignore[method-assign]
    stand.backup()
    assert any(b"systems.kafka.reader" in line for line in seen)
    assert not any(password.encode() in line for line in seen)
    stored = b"".join(stand.bucket.read(found.key) for found in stand.bucket.list())
    assert password.encode() not in stored


def test_a_reader_that_crashes_fails_the_run_and_the_next_one_is_whole(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 3000)
    set_id = stand.freeze()
    first = [1]

    def born(child: isolation.Child) -> None:
        with suppress(IndexError):
            first.pop()
            child.kill()

    _when_born(monkeypatch, "reader", born)
    with pytest.raises(TransientError, match="signal 9"):
        stand.copy(set_id)
    assert stand.catalog.find(TARGET, set_id) is None
    stand.copy(set_id)
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_restore_that_is_killed_goes_on_without_losing_or_doubling(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 200})
    topic = stand.topic("t")
    stand.produce(topic, 6000)
    stand.backup()
    loaded = 0

    def kill() -> None:
        nonlocal loaded
        loaded += 1
        if loaded >= 9:  # of 30; several threads count
            stand.stop.stop("the task was killed")

    stand.said.on_advance = kill
    with pytest.raises(MainstayError):
        stand.restore(rename={topic: topic + "_back"})
    stand.stop = Stop()
    there = sum(map(len, stand.seen(topic + "_back").values()))
    assert 0 < there < 6000
    children: list[isolation.Child] = []
    _when_born(monkeypatch, "loader", children.append)

    def kill_them() -> None:
        for child in children:
            child.kill()

    stand.said.on_advance = kill_them
    with pytest.raises(TransientError):
        stand.restore(rename={topic: topic + "_back"})
    assert there < sum(map(len, stand.seen(topic + "_back").values())) < 6000
    stand.said.on_advance = lambda: None
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_sandbox_whose_restore_broke_off_serves_and_says_that_it_is_not_whole(stand: Stand, home: Home) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 60)
    manifest = stand.backup()
    sandbox = home.sandbox(f"restore-kafka-{TARGET.name}-{manifest.id.lower()}")
    try:
        stand.said.on_advance = lambda: stand.stop.stop("the task was killed")
        with pytest.raises(MainstayError):
            stand.restore(destination=DestinationKind.SANDBOX)
        assert sandbox.running()
        assert (sandbox.unfinished, sandbox.used) == (True, False)
        stand.stop, stand.said.on_advance = Stop(), lambda: None
        stand.restore(destination=DestinationKind.SANDBOX)
        assert sandbox.running()
        assert not sandbox.unfinished
    finally:
        sandbox.destroy()


def test_a_topic_that_holds_records_is_not_restored_over(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 30)
    stand.backup()
    with pytest.raises(Refused, match="holds up to 30 records"):
        stand.restore()


def test_the_source_itself_is_refused_unless_its_name_is_typed(stand: Stand) -> None:
    from include.engine.model import DestinationKind
    from include.engine.verbs import restore

    topic = stand.topic("t")
    stand.produce(topic, 3)
    stand.backup()
    with pytest.raises(Refused, match="is the cluster that was backed up"):
        restore.plan(
            stand.pipeline,
            TARGET,
            destination=DestinationKind.SERVER,
            server="here",
            rename={topic: topic + "_back"},
        )


def test_a_topic_with_other_partitions_is_refused(stand: Stand) -> None:
    topic = stand.topic("t", partitions=3)
    other = stand.topic("other", partitions=2)
    stand.backup()
    with pytest.raises(Refused, match="has 2 partitions there, 3 in the backup"):
        stand.restore(only=[topic], rename={topic: other})


def test_a_topic_that_the_backup_does_not_have_is_told_with_those_that_it_has(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.backup()
    with pytest.raises(NotFound, match=topic):
        stand.restore(only=["nothing"])


def test_somebody_who_writes_into_a_restore_is_noticed(stand: Stand) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 100})
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 2000, partitions=1)
    stand.backup()
    done = False

    def intrude() -> None:
        nonlocal done
        if not done:
            done = True
            stand.produce(topic + "_back", 1, partitions=1)

    stand.said.on_advance = intrude
    for _ in range(2):  # the second attempt must not take the foreign record for one of its own
        with pytest.raises(Refused, match="somebody else wrote"):
            stand.restore(rename={topic: topic + "_back"})


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_written_between_two_attempts_is_not_taken_for_the_restores_own(stand: Stand, *, whole: bool) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 200})
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 1000, partitions=1)
    stand.backup()
    back = topic + "_back"

    def kill() -> None:
        stand.stop.stop("the task was killed")

    stand.said.on_advance = kill
    with pytest.raises(MainstayError):
        stand.restore(rename={topic: back})
    stand.said.on_advance = lambda: None
    stand.stop = Stop()
    there = len(stand.seen(back)[0])
    assert there == 200
    # As many records as a segment holds, or some that a later segment would be held against.
    stand.produce(back, 200 if whole else 30, partitions=1)
    with pytest.raises(Refused, match="not those of the backup"):
        stand.restore(rename={topic: back})
    assert len(stand.seen(back)[0]) == there + (200 if whole else 30)
    stand.delete(back)
    _until(lambda: not _exists(stand, back))
    stand.restore(rename={topic: back})
    assert stand.seen(back) == stand.seen(topic)


def test_two_restores_of_one_backup_under_two_names_do_not_forget_each_other(stand: Stand) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 100})
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 500, partitions=1)
    stand.backup()
    stand.said.on_advance = lambda: stand.stop.stop("the task was killed")
    with pytest.raises(MainstayError):
        stand.restore(rename={topic: topic + "_one"})
    stand.said.on_advance = lambda: None
    stand.stop = Stop()
    stand.restore(rename={topic: topic + "_two"})
    stand.restore(rename={topic: topic + "_one"})
    assert stand.seen(topic + "_one") == stand.seen(topic + "_two") == stand.seen(topic)


def test_a_restore_that_dies_in_its_last_check_can_be_run_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 30)
    stand.backup()
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise Interrupted("killed", hint="")

        patch.setattr("include.engine.systems.kafka.checks.after_finish", dies)
        with pytest.raises(Interrupted):
            stand.restore(rename={topic: topic + "_back"})
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_child_ends_with_whoever_started_it_in_the_middle_of_its_work() -> None:
    busy = "import os, time; from include.engine.systems.kafka.isolation import serve; serve({work})"
    work = "lambda frames, send: (os.write(2, b'at work'), time.sleep(60))"
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {busy.format(work=work)!r}], stderr=subprocess.PIPE)\n"
        "child.stderr.read(7)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        state = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        assert state.exists()
        parent.kill()

    def gone() -> bool:
        try:
            return " Z " in state.read_text()
        except OSError:  # somebody has taken note of its end
            return True

    _until(gone)


def test_a_group_with_members_is_not_moved(stand: Stand) -> None:
    from confluent_kafka import Consumer

    from tests.systems.kafka.stand import settings_of

    topic = stand.topic("t")
    stand.produce(topic, 30)
    group = stand.commit("g", {(topic, 0): 3})
    stand.backup()
    consumer = Consumer(settings_of(stand.cluster.bootstrap) | {"group.id": group, "auto.offset.reset": "latest"})
    consumer.subscribe([topic])
    _until(lambda: consumer.poll(0.1) is not None or bool(consumer.assignment()))
    with pytest.raises(Contended, match=f"consumers.*{group}"):
        stand.restore(rename={topic: topic + "_back"})
    assert not _exists(stand, topic + "_back")  # whatever can refuse has refused before anything is made
    assert any(
        f"stop the consumers of {group}" in line for line in stand.plan(rename={topic: topic + "_back"}).warnings
    )
    consumer.close()
    stand.restore(rename={topic: topic + "_back"})
    with open_admin(stand.cluster.connection()) as admin:
        assert admin.committed([group])[group][TP(topic + "_back", 0)][0] == 3


def test_a_group_that_is_not_deleted_at_once_is_deleted_at_last(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    from kafka import KafkaAdminClient

    group = stand.commit("g", {(stand.topic("t"), 0): 0})
    really, answers = KafkaAdminClient.delete_groups, ["CoordinatorLoadInProgressError"]

    def delete(client: KafkaAdminClient, groups: list[str]) -> dict[str, str]:
        return dict.fromkeys(groups, answers.pop()) if answers else dict(really(client, groups))

    monkeypatch.setattr(KafkaAdminClient, "delete_groups", delete)
    with open_admin(stand.cluster.connection()) as admin:
        admin.delete_groups([group, stand.prefix + "never was"])
        assert group not in admin.groups()


def test_times_in_microseconds_are_kept_and_are_no_point_in_time(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, given=TAKES_ANY_TIME)
    producer = stand.producer()
    send(producer, topic, b"v", None, 0, 1_764_500_000_000_000)
    assert producer.flush(30) == 0
    manifest = stand.backup()
    assert manifest.recoverable_from == manifest.recoverable_to == manifest.cut.at
    with pytest.raises(Refused, match="as old as that point"):
        stand.restore(point=manifest.cut.at.isoformat(), rename={topic: topic + "_back"})
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_record_that_is_larger_than_the_target_takes_is_told(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, max_message_bytes="3000000")
    producer = stand.producer()
    send(producer, topic, os.urandom(2_000_000), None, 0)
    producer.flush()
    stand.backup()
    other = stand.topic("small", partitions=1)
    tight = dict(LOADING) | {"max.message.bytes": "1000"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("include.engine.systems.kafka.loading.loading", lambda configs: tight)
        with pytest.raises(MainstayError, match="larger than the target takes"):
            stand.restore(rename={topic: other})


def test_a_compacted_topic_whose_tombstones_may_be_gone_is_read_anew(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, cleanup_policy="compact", delete_retention_ms="1000")
    stand.produce(topic, 20, partitions=1)
    stand.backup()
    time.sleep(1.1)
    manifest = stand.backup()
    assert any("tombstones" in note for note in manifest.notes)
    assert manifest.detail["new_records"] == 20


def test_a_backup_that_reads_until_tombstones_may_be_gone_is_none_and_the_next_reads_anew(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1, cleanup_policy="compact")  # tombstones live for a day
    stand.produce(topic, 20, partitions=1)
    stand.backup()
    stand.produce(topic, 5, start=20, partitions=1)
    set_id, took = stand.freeze(), timedelta()

    def slowly() -> None:
        nonlocal took
        took = timedelta(hours=25)

    stand.said.on_advance = slowly
    again = partial(
        backup.copy, stand.pipeline, set_id, TARGET, progress=stand.said, stop=stand.stop, clock=lambda: clock() + took
    )
    with pytest.raises(Incomplete, match=f"until tombstones of {topic} may have gone"):
        again()
    assert again().detail["new_records"] == 25


def test_two_runs_of_one_backup_at_once_leave_one_whole_backup(stand: Stand) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 3000)
    set_id = stand.freeze()
    results: list[object] = []

    def run() -> None:
        try:
            results.append(stand.copy(set_id))
        except MainstayError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [found for found in results if not isinstance(found, MainstayError)]
    assert whole
    assert len({found.finished for found in whole}) == 1  # type: ignore[attr-defined]
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_stop_ends_a_backup_quickly_and_commits_nothing(stand: Stand) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 50})
    topic = stand.topic("t")
    stand.produce(topic, 5000)
    set_id = stand.freeze()
    stand.said.on_advance = lambda: stand.stop.stop("somebody clicked")
    began = time.monotonic()
    with pytest.raises(Interrupted):
        stand.copy(set_id)
    assert time.monotonic() - began < 15


def test_expired_records_leave_later_backups_unless_they_are_to_stay(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 10, partitions=1)
    stand.backup()
    stand.produce(topic, 10, partitions=1, start=10)
    stand.backup()
    _delete_before(stand, topic, 10)
    assert [s["facts"]["first"] for s in stand.backup().detail["segments"]] == [10]


def _when_born(monkeypatch: pytest.MonkeyPatch, module: str, then: Callable[[isolation.Child], None]) -> None:
    """Do something with each child of a module that is started from now on."""
    real = isolation.Child.__init__

    def init(self: isolation.Child, name: str, *, patience: float = 120.0) -> None:
        real(self, name, patience=patience)
        if name == module:
            then(self)

    monkeypatch.setattr(isolation.Child, "__init__", init)


def _exists(stand: Stand, topic: str) -> bool:
    with open_admin(stand.cluster.connection()) as admin:
        return topic in admin.topics()


def _delete_before(stand: Stand, topic: str, offset: int) -> None:
    from kafka import TopicPartition

    with open_admin(stand.cluster.connection()) as admin:
        admin.client.delete_records({TopicPartition(topic, 0): offset})


def _until(true: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
