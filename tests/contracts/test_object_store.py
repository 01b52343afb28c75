"""What every object store must do for Mainstay: one suite for memory, a local folder and S3."""

from __future__ import annotations

import os
import threading
import time
import traceback
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, NotFound, Unauthorized, Unreachable, Unsupported
from include.engine.store import bucket as buckets
from include.engine.store.bucket import PART_BYTES, RANGE_BYTES, Bucket
from include.engine.systems.object_store.server import ObjectStoreServer

IMPATIENT = {"max_retries": "1", "retry_seconds": "2", "timeout_seconds": "3"}
STORES = ["memory", "local", pytest.param("s3", marks=pytest.mark.integration)]


def s3(server: ObjectStoreServer, name: str, **more: str) -> Bucket:
    connection = Connection(
        login=server.access_key,
        password=more.pop("password", server.secret_key),
        extra={"endpoint_url": server.endpoint, "region_name": server.region} | more,
    )
    return Bucket.open(f"s3://{name}/pipe/line", connection)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "memory":
        return Bucket.open(f"memory://{uuid.uuid4().hex}")
    if request.param == "local":
        return Bucket.open((tmp_path / "a store with spaces").as_uri())
    return s3(request.getfixturevalue("object_store"), request.getfixturevalue("bucket"))


def chunks_of(content: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_what_was_created_can_be_read(store: Bucket) -> None:
    assert store.create("a/b", b"one")
    assert (store.read("a/b"), store.size("a/b"), store.exists("a/b")) == (b"one", 3, True)


def test_what_exists_is_never_overwritten(store: Bucket) -> None:
    assert store.create("a", b"first")
    assert not store.create("a", b"second")
    assert store.read("a") == b"first"


def test_of_twenty_threads_that_create_exactly_one_wins(store: Bucket) -> None:
    barrier = threading.Barrier(20)

    def create(number: int) -> int | None:
        barrier.wait()
        return number if store.create("a/manifest.json", b"%d" % number) else None

    with ThreadPoolExecutor(20) as pool:
        winners = [number for number in pool.map(create, range(20)) if number is not None]
    assert len(winners) == 1
    assert store.read("a/manifest.json") == b"%d" % winners[0]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 7])
def test_an_upload_of_any_size_comes_back_as_it_was(store: Bucket, size: int) -> None:
    content = os.urandom(1 << 20) * (size // (1 << 20) + 1)
    store.upload("a/b", chunks_of(content[:size]))
    assert store.size("a/b") == size
    assert b"".join(store.stream("a/b")) == content[:size]


@pytest.mark.parametrize("before", [0, 3, 2 * PART_BYTES // 100_000 + 5], ids=["at once", "early", "after two parts"])
@pytest.mark.parametrize("error", [KeyError("mine"), OSError("disk"), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_an_upload_whose_source_fails_leaves_no_object_and_raises_that_very_error(
    store: Bucket, before: int, error: BaseException
) -> None:
    def source() -> Iterator[bytes]:
        for _ in range(before):
            yield bytes(100_000)
        raise error

    with pytest.raises(type(error)) as caught:
        store.upload("a/b", source())
    assert caught.value is error
    assert not store.exists("a/b")
    assert list(store.list()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("upload")]


def test_the_source_of_an_upload_may_use_the_store_itself(store: Bucket) -> None:
    """With a synchronous client that drives the iterator itself, this would panic."""
    store.create("a", b"x" * 10)

    def source() -> Iterator[bytes]:
        assert store.exists("a")
        assert store.folders("") == ()
        yield from store.stream("a")

    store.upload("b", source())
    assert store.read("b") == b"x" * 10


def test_the_source_of_an_upload_runs_in_the_thread_of_the_caller(store: Bucket) -> None:
    def source() -> Iterator[bytes]:
        yield threading.current_thread().name.encode()

    store.upload("a", source())
    assert store.read("a") == threading.current_thread().name.encode()


@pytest.mark.parametrize("size", [0, 1, RANGE_BYTES - 1, RANGE_BYTES, RANGE_BYTES + 1, 6 * RANGE_BYTES + 1])
def test_a_fetch_gives_the_size_first_and_all_ranges_in_order(store: Bucket, size: int) -> None:
    content = (os.urandom(1 << 20) * (size // (1 << 20) + 1))[:size]
    store.upload("a", [content])
    fetched = store.fetch("a", ahead=2)
    assert fetched.size == size
    assert b"".join(fetched.chunks) == content


def test_a_reader_who_gives_up_leaves_no_thread(store: Bucket) -> None:
    store.upload("a", [bytes(RANGE_BYTES)] * 6)
    chunks = store.stream("a")
    next(chunks)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]


def test_what_is_not_there_is_not_found_and_named(store: Bucket) -> None:
    for ask in (store.read, store.size, store.stream, store.fetch):
        with pytest.raises(NotFound, match="no/such"):
            ask("no/such")
    assert not store.exists("no/such")


def test_more_than_a_thousand_objects_are_all_listed(store: Bucket) -> None:
    wanted = {f"many/{n:04}" for n in range(1105)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.create(key, b"12"), [*wanted, "manyother/x"]))
    assert {found.key for found in store.list("many")} == wanted
    assert {found.key for found in store.list("many/")} == wanted
    assert {found.key for found in store.list()} == wanted | {"manyother/x"}
    assert {found.key for found in store.list("many", after="many/1000")} == {k for k in wanted if k > "many/1000"}
    assert list(store.list("man")) == []
    assert store.delete_allowed(wanted) == ()
    assert list(store.list("many")) == []


def test_a_listing_gives_size_and_time(store: Bucket) -> None:
    store.create("a/b", b"123")
    (found,) = store.list("a")
    assert (found.key, found.bytes) == ("a/b", 3)
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.modified.tzinfo is UTC


def test_folders_are_those_with_something_in_them(store: Bucket) -> None:
    for key in ("t/one/x", "t/two/deep/x", "t/file", "u/x"):
        store.create(key, b"")
    assert store.folders("t") == ("one", "two")
    assert store.folders("") == ("t", "u")
    assert store.folders("nothing") == ()
    store.delete(["t/two/deep/x"])
    assert store.folders("t/") == ("one",)


def test_deleting_what_is_not_there_is_no_error(store: Bucket) -> None:
    store.create("a", b"")
    store.delete(["no/such", "a", "neither"])
    assert not store.exists("a")
    assert store.create("a", b"again")


@pytest.mark.parametrize("key", ["a b/ü 'q' \"z\" +&=#100%25?*", "日本/x", "a/.hidden", "x~y(1).tar"])
def test_strange_names_survive(store: Bucket, key: str) -> None:
    store.create(key, b"1")
    assert store.read(key) == b"1"
    assert [found.key for found in store.list()] == [key]
    store.delete([key])
    assert not store.exists(key)


@pytest.mark.parametrize("key", ["a//b", "a/../b", "./a"])
def test_names_that_lead_elsewhere_are_refused(store: Bucket, key: str) -> None:
    with pytest.raises(Misconfigured, match="names of objects"):
        store.create(key, b"")


def test_an_object_of_more_parts_than_a_store_has_is_refused_in_time(
    store: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PARTS_LIMIT", 2)
    content = [bytes(1 << 20)] * 40
    if store.url.startswith("s3"):
        with pytest.raises(Unsupported, match="expected size"):
            store.upload("a", content)
        assert not store.exists("a")
    store.upload("b", content, expected_bytes=40 << 20)
    assert store.size("b") == 40 << 20


@pytest.mark.parametrize("url", ["", "backups", "ftp://x/y", "/var/backups"])
def test_a_url_that_is_none_names_what_would_be_one(url: str) -> None:
    with pytest.raises(Misconfigured, match="s3://"):
        Bucket.open(url)


@pytest.mark.parametrize("size", [10, 40 << 20], ids=["small", "multipart"])
def test_a_dead_endpoint_is_unreachable_within_seconds(size: int) -> None:
    extra = {"endpoint_url": "http://127.0.0.1:9", **IMPATIENT}
    dead = Bucket.open("s3://b/p", Connection(login="k", password="SECRET", extra=extra))
    began = time.monotonic()
    for ask in (
        lambda: dead.read("x"),
        lambda: dead.create("x", b""),
        lambda: dead.upload("x", iter([bytes(size)])),
        lambda: list(dead.list()),
        lambda: dead.folders(""),
        lambda: dead.delete(["x"]),
    ):
        with pytest.raises(Unreachable, match="s3://b/p") as caught:
            ask()
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    assert time.monotonic() - began < 20


@pytest.mark.integration
def test_wrong_credentials_are_unauthorized_and_the_secret_is_not_told(
    object_store: ObjectStoreServer, bucket: str
) -> None:
    wrong = s3(object_store, bucket, password="WRONGSECRET", **IMPATIENT)
    for ask in (
        lambda: wrong.read("x"),
        lambda: wrong.create("x", b"1"),
        lambda: wrong.upload("x", iter([b"1"])),
        lambda: list(wrong.list()),
        lambda: wrong.delete(["x"]),
    ):
        with pytest.raises(Unauthorized) as caught:
            ask()
        told = "".join(traceback.format_exception(caught.value))
        assert "WRONGSECRET" not in told
        assert object_store.secret_key not in told


@pytest.mark.integration
def test_a_bucket_that_does_not_exist_is_not_an_empty_catalog(object_store: ObjectStoreServer) -> None:
    with pytest.raises(Misconfigured, match="create the bucket"):
        s3(object_store, "no-such-bucket").folders("sets")


@pytest.mark.integration
def test_a_signed_url_lets_a_node_put_and_get_without_a_credential(
    object_store: ObjectStoreServer, bucket: str
) -> None:
    store = s3(object_store, bucket)
    put = urllib.request.Request(store.sign("PUT", "a b/c", timedelta(minutes=1)), data=b"hello", method="PUT")
    with urllib.request.urlopen(put, timeout=10) as answer:
        assert answer.status == 200
    assert store.read("a b/c") == b"hello"
    with urllib.request.urlopen(store.sign("GET", "a b/c", timedelta(minutes=1)), timeout=10) as answer:
        assert answer.read() == b"hello"


def test_a_store_without_signed_urls_says_so(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot sign"):
        Bucket.open(tmp_path.as_uri()).sign("GET", "a", timedelta(minutes=1))
