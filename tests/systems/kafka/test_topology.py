"""A mirror's connectors: what is declared, what would change, and no secret in what is shown."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.errors import Misconfigured
from include.engine.systems.kafka.caught_up import lags, positions
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.settings import Mirror
from include.engine.systems.kafka.topology import cannot_run, connector_name, desired, diff, is_of, java_settings
from include.engine.systems.kafka.translate import Row, nearest, overlap, parse_pair, present

MIRROR = Mirror(connect="c", to="dr", topics=("a", "b.*"))
SOURCE, TARGET = {"bootstrap.servers": "main:9092"}, {"bootstrap.servers": "dr:9092"}
SASL = SOURCE | {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "u",
    "sasl.password": 'p"\\w',
}


def test_the_declared_mirror_copies_exactly_once_under_the_same_names() -> None:
    wanted = desired("x", MIRROR, SOURCE, TARGET)
    assert list(wanted) == ["mainstay-x-source", "mainstay-x-heartbeat"]
    config = wanted["mainstay-x-source"]
    assert config["topics"] == "a,b.*"
    # MirrorMaker 2's own, and what load tests make, which would stay on the copy for ever.
    never = [re.compile(pattern) for pattern in config["topics.exclude"].split(",")]
    for name, taken in [
        ("a", True),
        ("mm2-offsets.dr.internal", False),
        ("__consumer_offsets", False),
        ("mainstay_load_shop_20261123t020000z", False),
        ("mainstay_load_shop_a1b2c3_20261123t020000z.x", False),
        ("mainstay_load_notes", True),
    ]:
        assert any(one.fullmatch(name) for one in never) is not taken, name
    assert config["exactly.once.support"] == "required"
    assert config["source.consumer.isolation.level"] == "read_committed"
    assert config["replication.policy.class"].endswith("IdentityReplicationPolicy")
    assert all(config[f"{part}.converter"].endswith("ByteArrayConverter") for part in ("key", "value", "header"))


def test_what_is_as_declared_changes_nothing() -> None:
    wanted = desired("x", MIRROR, SOURCE, TARGET)
    assert diff(wanted, {name: {**config, "name": name} for name, config in wanted.items()}) == []


def test_a_difference_is_told_key_by_key_and_what_is_ours_no_longer_goes() -> None:
    wanted = desired("x", MIRROR, SOURCE, TARGET)
    name = connector_name("x")
    actual = wanted | {name: {**wanted[name], "tasks.max": "9"}, "mainstay-x-old": {}}
    changes = [str(change) for change in diff(wanted, actual)]
    assert changes == [f"update {name}: tasks.max: 9 -> 2", "delete mainstay-x-old"]
    assert [str(change) for change in diff(wanted, {})] == ["create mainstay-x-heartbeat", f"create {name}"]


def test_a_changed_password_is_told_without_it() -> None:
    wanted = desired("x", MIRROR, SASL, TARGET)
    name = connector_name("x")
    before = {**wanted[name], "source.cluster.sasl.jaas.config": "old secret"}
    (change,) = diff(wanted, wanted | {name: before})
    assert "(secret) -> (secret)" in str(change)
    assert "old secret" not in str(change)


def test_a_password_with_quotes_stays_one_word_for_java() -> None:
    assert 'password="p\\"\\\\w";' in java_settings(SASL)["sasl.jaas.config"]


def test_a_client_certificate_goes_to_the_worker_as_its_content_and_is_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("certificate")
    (tmp_path / "k").write_text("the key")
    access = {
        "bootstrap.servers": "a:1",
        "security.protocol": "ssl",
        "ssl.certificate.location": str(tmp_path / "c"),
        "ssl.key.location": str(tmp_path / "k"),
        "ssl.key.password": "p",
        "ssl.endpoint.identification.algorithm": "none",
    }
    found = java_settings(access)
    assert (found["ssl.keystore.certificate.chain"], found["ssl.keystore.key"]) == ("certificate", "the key")
    assert (found["ssl.key.password"], found["ssl.endpoint.identification.algorithm"]) == ("p", "")
    wanted = desired("x", MIRROR, access, TARGET)
    name = connector_name("x")
    (change,) = diff({name: wanted[name]}, {name: {**wanted[name], "source.cluster.ssl.keystore.key": "old key"}})
    assert "key" not in str(change).removeprefix(f"update {name}: source.cluster.ssl.keystore.key")
    with pytest.raises(Misconfigured, match="nowhere"):
        java_settings(access | {"ssl.key.location": "/nowhere"})


def test_a_way_to_log_in_that_a_worker_does_not_have_is_refused_and_not_replaced() -> None:
    with pytest.raises(Misconfigured, match="GSSAPI"):
        java_settings({**SASL, "sasl.mechanism": "GSSAPI"})


def test_a_mirror_onto_the_same_cluster_of_nothing_or_of_what_another_copies_there_cannot_run() -> None:
    assert cannot_run("one", "other", ["a"], {"second": Mirror(connect="c", to="dr", topics=("c",))}) == []
    assert any("onto themselves" in problem for problem in cannot_run("one", "one", ["a"], {}))
    assert any("nothing" in problem for problem in cannot_run("one", "other", [], {}))
    (problem,) = cannot_run("one", "other", ["a", "bc", "d"], {"second": MIRROR})
    assert "the mirror second copies a, bc to the same cluster" in problem


def test_a_connector_is_of_the_mirror_whose_name_it_has_and_of_none_whose_name_begins_alike() -> None:
    parts = ["mainstay-dr-source", "mainstay-dr-old", "mainstay-dr-2-source", "mainstay-drill-source", "other"]
    assert [part for part in parts if is_of("dr", part)] == parts[:2]
    assert [part for part in parts if is_of("dr-2", part)] == ["mainstay-dr-2-source"]


def test_notes_of_what_is_gone_are_nothing_to_count_from() -> None:
    pairs = [(0, 0), (100, 103), (200, 206)]
    assert present(pairs, 0, 0) == pairs
    assert present(pairs, 50, 104) == present(pairs, 101, 0) == [(200, 206)]


@given(st.lists(st.sampled_from("abc"), min_size=1), st.integers(0, 9), st.lists(st.sampled_from("abc"), max_size=9))
def test_the_end_of_one_side_is_found_on_the_other_that_begins_later_and_goes_on(
    records: list[str], lost: int, more: list[str]
) -> None:
    rows = [Row(offset, (0, None, record.encode(), ())) for offset, record in enumerate([*records, *more])]
    kept = rows[lost:]
    assert overlap(rows[: len(records)], kept) >= max(0, len(records) - lost)
    assert overlap(rows[: len(records)], []) == 0
    other = Row(0, (0, None, b"other", ()))
    assert overlap(rows[: len(records)], [other] * 3) == overlap([*rows, other], rows) == 0


def test_caught_up_is_by_what_was_read_and_what_can_still_be_read() -> None:
    read = positions(
        [
            ({"cluster": "main", "topic": "t", "partition": 0}, {"offset": 9}),
            ({"cluster": "other", "topic": "t", "partition": 1}, {"offset": 9}),
        ],
        "main",
    )
    assert read == {TP("t", 0): 10}
    cut = {TP("t", 0): 10, TP("t", 1): 5, TP("t", 2): 5}
    found = lags(cut, {TP("t", 1): 5, TP("t", 2): 3}, read)
    assert [str(lag) for lag in found] == ["t-2 [3, 5)"]


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**31 - 1), st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_note_of_mirrormaker_is_read(topic: str, partition: int, source: int, mirror: int) -> None:
    name = topic.encode()
    key = struct.pack(">h", len(name)) + name + struct.pack(">i", partition)
    assert parse_pair(key, struct.pack(">qq", source, mirror)) == (TP(topic, partition), (source, mirror))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1).map(sorted), st.integers(-1, 60))
def test_the_nearest_note_is_the_last_before_a_position_or_the_first_of_all(
    pairs: list[tuple[int, int]], position: int
) -> None:
    before = [pair for pair in pairs if pair[0] <= position]
    assert nearest(pairs, position) == (before[-1] if before else pairs[0])
