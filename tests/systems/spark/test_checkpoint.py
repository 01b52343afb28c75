"""What is read from a checkpoint, what is refused, and how it is made to fit a restored topic."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.errors import Corrupt, Incomplete, Refused
from include.engine.systems.spark import checkpoint

HEAD = 'v1\n{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{"spark.sql.shuffle.partitions":"4"}}\n'


def note(offsets: dict[str, dict[int, int]]) -> bytes:
    return (HEAD + json.dumps({t: {str(p): o for p, o in ps.items()} for t, ps in offsets.items()})).encode()


def files(last: int, *, topic: str = "t", step: int = 10) -> dict[str, bytes]:
    made = {"metadata": b'{"id":"1"}', "sources/0/0": b'\0v1\n{"t":{"0":0}}'}
    for n in range(last + 1):
        made[f"offsets/{n}"] = note({topic: {0: n * step, 1: n * step + 1}})
        made[f"commits/{n}"] = b'v1\n{"nextBatchWatermarkMs":0}'
    return made


def test_a_flow_is_where_its_last_finished_batch_ends() -> None:
    found = files(3)
    found["offsets/4"] = note({"t": {0: 99, 1: 99}})  # begun, not finished
    state = checkpoint.inspect("users", found, "t")
    assert (state.batch, state.offsets) == (3, {"t": {0: 30, 1: 31}})


def test_a_query_that_has_finished_no_batch_reads_from_the_beginning() -> None:
    assert checkpoint.inspect("users", {"metadata": b"{}"}, "t").batch is None


def test_only_what_spark_reads_at_its_start_is_needed() -> None:
    paths = [
        *files(12),
        "offsets/13",
        "offsets/.12.crc",
        "commits/.12.crc",
        "offsets/13.tmp",
        "mainstay",
        "sources/0",
        "sources",
    ]
    wanted = ("commits/11", "commits/12", "metadata", "offsets/11", "offsets/12", "sources/0/0")
    assert checkpoint.needed(paths) == wanted


def test_state_of_later_batches_is_left_behind() -> None:
    paths = [
        "state/0/0/1.delta",
        "state/0/0/4.delta",
        "state/0/0/5.delta",
        "state/0/0/3.snapshot",
        "state/0/_metadata/schema",
    ]
    markers = ["state", "state/0", "state/0/0"]  # of folders, in an object store
    assert set(checkpoint.state_files([*paths, *markers], 3)) == set(paths) - {"state/0/0/5.delta"}


@pytest.mark.parametrize(
    ("path", "raw", "said"),
    [
        ("offsets/3", b"v1\n{}", "cut off"),
        ("offsets/3", b"", "cut off"),
        ("offsets/2", b"v7\n{}\n{}", "format"),
        ("offsets/3", (HEAD + '{"t": {"0": 3').encode(), "damaged"),
        ("offsets/3", (HEAD + '{"t": [3]}').encode(), "tells no offsets"),
        ("offsets/3", b"\xff\xfe\xfd", "not text"),
        ("offsets/2", None, "no offsets of batch 2"),
        ("metadata", None, "no metadata"),
        ("metadata", b"{", "damaged"),
        ("commits/3", b"v1", "cut off"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_what_is_wrong(path: str, raw: bytes | None, said: str) -> None:
    found = files(3)
    if raw is None:
        del found[path]
    else:
        found[path] = raw
    with pytest.raises(Corrupt, match=said):
        checkpoint.inspect("users", found, "t")


def test_a_checkpoint_of_another_topic_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="about the topic other"):
        checkpoint.inspect("users", files(3, topic="other"), "t")


def test_a_rewritten_checkpoint_goes_on_at_the_same_records_and_names() -> None:
    moved = {("t", 0): {30: 7}, ("t", 1): {31: 0}}
    after = checkpoint.rewrite("users", files(3), moved, {"t": "t_back"})
    assert checkpoint.inspect("users", after, "t_back").offsets == {"t_back": {0: 7, 1: 0}}
    assert after["offsets/2"] == after["offsets/3"]  # the last batch counts as done and empty
    assert after["offsets/3"].decode().splitlines()[1] == HEAD.splitlines()[1]
    assert not [path for path in after if path.startswith("sources/")]
    assert after["metadata"] == files(3)["metadata"]


def test_a_position_that_nobody_told_is_named() -> None:
    with pytest.raises(Incomplete, match="t-1 at 31"):
        checkpoint.rewrite("users", files(3), {("t", 0): {30: 7}})


positions = st.dictionaries(st.integers(0, 40), st.integers(0, 2**40), min_size=1, max_size=12)


@given(before=positions, shift=st.integers(0, 2**20), last=st.integers(0, 30))
def test_what_is_rewritten_is_read_back_as_told_and_twice_is_once(
    before: dict[int, int], shift: int, last: int
) -> None:
    found = files(last)
    found[f"offsets/{last}"] = note({"t": before})
    moved = {("t", p): {o: max(0, o - shift)} for p, o in before.items()}
    after = checkpoint.rewrite("users", found, moved)
    state = checkpoint.inspect("users", after, "t")
    assert state.batch == last
    assert state.offsets == {"t": {p: max(0, o - shift) for p, o in before.items()}}
    stay = {("t", p): {o: o} for p, o in state.offsets["t"].items()}
    assert checkpoint.rewrite("users", after, stay) == after
    assert all(not PurePosixPath(path).is_absolute() for path in after)
