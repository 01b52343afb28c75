"""Kafka's bad days that need a cluster of their own: TLS with the wrong authority, and a copy's broker that dies in mid-mirror."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Misconfigured, TransientError, Unauthorized
from include.engine.mirroring import MirrorProgress
from include.engine.model import Verdict
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Sandbox
from include.engine.systems.kafka.backup import open_source
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.loader import PATIENCE
from include.engine.systems.kafka.mirror import KafkaMirror, open_mirror
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Mirror, Settings
from include.engine.systems.kafka.topology import connector_name
from include.engine.verbs import mirror as mirrors
from tests.systems.kafka.stand import TARGET, Servers, Stand, clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for loopback that is its own authority; give it and the key and itself in one file."""
    key, certificate, both = (folder / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-keyout",
                key,
                "-out",
                certificate,
            ),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return certificate, both


def test_tls_works_with_the_right_authority_and_a_wrong_one_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    right, keystore = authority(tmp_path, "right")
    wrong, _ = authority(tmp_path, "wrong")
    cluster = KafkaCluster(sandbox, "tls")
    node, port = cluster.nodes[0], sandbox.port("kafka-tls-ssl")
    served = sandbox.directory("kafka-tls") / "server.pem"
    served.write_bytes(keystore.read_bytes())
    own(served, sandbox.account, mode=0o600)
    usual = cluster.properties(node)
    address = f"SSL://127.0.0.1:{port}"
    cluster.settings = {
        "listeners": f"{usual['listeners']},{address}",
        "advertised.listeners": f"{usual['advertised.listeners']},{address}",
        "listener.security.protocol.map": f"{usual['listener.security.protocol.map']},SSL:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(served),
    }
    cluster.start()

    def connection(ca: Path | str) -> Connection:
        extra = {"bootstrap.servers": f"127.0.0.1:{port}", "security.protocol": "SSL", "ssl.ca.location": str(ca)}
        return Connection(extra=extra)

    stand = Stand(cluster)
    topic = stand.topic("t")
    stand.produce(topic, 300)
    stand.source = lambda target: open_source(TARGET, stand.settings, connection(right))  # type: ignore[method-assign]
    assert stand.backup().detail["new_records"] == 300
    with pytest.raises(Unauthorized, match=r"(?s)TLS.*certificate"), open_admin(connection(wrong), patience=3):
        pass
    with pytest.raises(Misconfigured, match="TLS files"), open_admin(connection("/nowhere.pem"), patience=3):
        pass
    cluster.stop()


def test_a_broker_that_is_away_for_longer_than_a_loader_waits_leaves_no_hole(sandbox: Sandbox) -> None:
    cluster = KafkaCluster(sandbox, "away").start()
    stand = Stand(cluster)
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 400_000, partitions=1, size=100)
    stand.settings = stand.settings.model_copy(update={"segment_records": 100_000})
    stand.backup()
    back = {topic: topic + "_back"}
    away = [PATIENCE + 15]

    def leave() -> None:
        if away:
            pause = away.pop()
            os.kill(cluster.nodes[0].pid or 0, signal.SIGSTOP)  # what is sent meanwhile may still arrive afterwards
            threading.Timer(pause, os.kill, (cluster.nodes[0].pid, signal.SIGCONT)).start()

    stand.said.on_advance = leave
    with pytest.raises(TransientError):
        stand.restore(rename=back)
    time.sleep(30)  # the broker is there again, and has taken what it had in its socket
    there = stand.seen(topic + "_back")[0]
    assert 0 < len(there) < 400_000
    assert there == stand.seen(topic)[0][: len(there)]
    stand.restore(rename=back)
    assert stand.seen(topic + "_back") == stand.seen(topic)
    cluster.stop()


@pytest.fixture
def clusters(sandbox: Sandbox) -> Iterator[tuple[KafkaCluster, KafkaCluster, ConnectWorker]]:
    main, dr = KafkaCluster(sandbox, "source").start(), KafkaCluster(sandbox, "copy").start()
    worker = ConnectWorker(sandbox, dr).start()
    yield main, dr, worker
    worker.stop()
    dr.stop()
    main.stop()


def test_brokers_of_both_sides_that_are_killed_in_mid_mirror_cost_time_only(
    clusters: tuple[KafkaCluster, KafkaCluster, ConnectWorker],
) -> None:
    main, dr, worker = clusters
    stand = Stand(main)
    topic = stand.topic("t")
    stand.produce(topic, 150_000, size=300)
    declared = Mirror(connect="connect", to="dr", topics=(topic,), replication_factor=1)
    connections = Servers(main=main.connection(), dr=dr.connection(), connect=worker.connection())
    mirror = open_mirror(TARGET, Settings(connection="main", mirrors={"m": declared}), "m", connections)
    mirror.apply()
    cut = mirror.cut(clock)
    for victim in (dr, main):
        _until_copied_more(mirror)
        victim.kill()
        threading.Timer(3, victim.start).start()
        time.sleep(3)
    assert _caught_up(mirror, cut).caught_up
    assert stand.seen(topic, cluster=dr) == stand.seen(topic)
    checks = mirrors.prove(mirror, cut, _caught_up(mirror, cut))
    assert all(check.verdict is Verdict.PASS for check in checks), checks


def _caught_up(mirror: KafkaMirror, cut: dict[str, object]) -> MirrorProgress:
    """Wait as the trigger does: a broker or a worker that is away for a moment is what waiting is for."""
    deadline = time.monotonic() + 300
    while True:
        try:
            return mirrors.wait(mirror, cut, patience=timedelta(seconds=240), stop=Stop())
        except TransientError:
            assert time.monotonic() < deadline


def _until_copied_more(mirror: KafkaMirror) -> None:
    """Wait until it has copied more than it had."""
    deadline = time.monotonic() + 120
    first: int | None = None
    while True:
        assert time.monotonic() < deadline
        try:
            now = sum(int(at["offset"]) for _, at in mirror._connect.offsets(connector_name(mirror.name)))
        except TransientError:
            continue
        first = now if first is None else first
        if now > first or now >= 149_000:
            return
        time.sleep(0.05)
