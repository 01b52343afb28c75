"""What the inventory may say about Kafka, and how a connection is read by both clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine import wiring
from include.engine.contracts import Connection
from include.engine.errors import Misconfigured
from include.engine.model import System, Target
from include.engine.systems.kafka.access import kafka_python_settings, librdkafka_settings
from include.engine.systems.kafka.settings import Settings

INVENTORY = """
pipeline: test
store: {url: "memory://x"}
kafka:
  main:
    connection: kafka_main
    topics: ["users_.*", "events_topic"]
    exclude: [".*_debug"]
    mirrors:
      dr: {connect: kafka_connect, to: kafka_dr}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(text)
    return path


def test_an_inventory_with_kafka_and_a_mirror_is_read(tmp_path: Path) -> None:
    inventory = wiring.load_inventory(_write(tmp_path, INVENTORY))
    settings = inventory.settings(Target(System.KAFKA, "main"))
    assert isinstance(settings, Settings)
    assert [t for t in ("users_created", "users_debug", "events_topic", "other") if settings.covers(t)] == [
        "users_created",
        "events_topic",
    ]
    assert wiring.mirrors(inventory) == ["kafka/main/dr"]


def test_a_mistake_in_a_mirror_is_told_with_its_line(tmp_path: Path) -> None:
    broken = INVENTORY.replace("to: kafka_dr", "too: kafka_dr").replace("users_.*", "users_(")
    with pytest.raises(Misconfigured) as caught:
        wiring.load_inventory(_write(tmp_path, broken))
    assert "mirrors.dr.too: unknown key" in caught.value.message
    assert "is not a regular expression" in caught.value.message


def test_a_mirrors_name_that_is_none_and_one_that_two_clusters_give_are_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="'a/b' is no name of a mirror"):
        wiring.load_inventory(_write(tmp_path, INVENTORY.replace("      dr:", "      a/b:")))
    second = (
        INVENTORY + "  other:\n    connection: kafka_other\n    mirrors:\n      dr: {connect: CONNECT, to: kafka_dr}\n"
    )
    with pytest.raises(Misconfigured, match="kafka/main has a mirror dr on kafka_connect, too"):
        wiring.load_inventory(_write(tmp_path, second.replace("CONNECT", "kafka_connect")))
    apart = wiring.load_inventory(_write(tmp_path, second.replace("CONNECT", "another_connect")))
    assert wiring.mirrors(apart) == ["kafka/main/dr", "kafka/other/dr"]


def test_both_clients_read_airflows_kafka_connection() -> None:
    connection = Connection(
        login="u",
        password="p",
        extra={
            "bootstrap.servers": "a:1,b:2",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "group.id": "not-ours",
        },
    )
    native = librdkafka_settings(connection)
    assert native == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "p",
    }
    pure = kafka_python_settings(connection)
    assert pure["bootstrap_servers"] == ["a:1", "b:2"]
    assert (pure["sasl_mechanism"], pure["sasl_plain_username"]) == ("PLAIN", "u")


def test_both_clients_log_in_by_the_same_mechanism_when_the_connection_names_none() -> None:
    extra = {"bootstrap.servers": "a:9092", "security.protocol": "sasl_plaintext", "sasl.username": "u"}
    connection = Connection(extra={**extra, "sasl.password": "p"})
    assert librdkafka_settings(connection)["sasl.mechanism"] == "SCRAM-SHA-512"
    assert kafka_python_settings(connection)["sasl_mechanism"] == "SCRAM-SHA-512"


def test_a_connection_without_a_server_or_with_a_wrong_protocol_is_told() -> None:
    with pytest.raises(Misconfigured, match="names no server"):
        librdkafka_settings(Connection())
    with pytest.raises(Misconfigured, match="not a protocol"):
        librdkafka_settings(Connection(host="a", extra={"security.protocol": "TLS"}))
    assert librdkafka_settings(Connection(host="a", port=9))["bootstrap.servers"] == "a:9"
