"""The object store: one client (obstore) for S3, GCS, Azure, a local folder and memory.

Keys are relative to the prefix of the URL that the bucket was opened with.  Objects are written once: :meth:`Bucket.create`
is conditional, and :meth:`Bucket.upload` is only used with keys that are unique to an attempt, or that name the very bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from msgspec import Struct
from obstore.exceptions import AlreadyExistsError, BaseError

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, NotFound, Unauthorized, Unsupported
from include.engine.store.failures import brief, explained
from include.engine.store.pipe import Pipe, ReaderGone
from include.engine.store.stores import open_store

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

PART_BYTES = 16 << 20  # of a multipart upload
PARTS_AT_ONCE = 3
PARTS_LIMIT = 10_000  # S3's and GCS's: an object of unknown size can have 156 GiB
RANGE_BYTES = 4 << 20  # of a download
RANGES_AHEAD = 4
_DELETES_AT_ONCE = 16

Result = TypeVar("Result")


class StoredObject(Struct, frozen=True, order=True):
    """One object as the store lists it.  ``modified`` is the store's own clock."""

    key: str
    bytes: int
    modified: datetime


class Fetched(Struct, frozen=True):
    """An object that is being read: its size in bytes, as the store says it, and its bytes, which come as they are asked for."""

    size: int
    chunks: Iterator[bytes]


class Bucket:
    """A prefix in an object store.

    Usage::

        bucket = Bucket.open("s3://backups/pipeline", connection)
        bucket.upload("a/b", chunks)
        assert bucket.create("a/manifest.json", raw)  # False when it is there already

    Every method raises ``Unreachable`` when the store does not answer after its own retries, and ``Unauthorized`` when it
    refuses.
    """

    def __init__(self, store: ObjectStore, url: str, connection: Connection | None = None) -> None:
        self._store = store
        self.url = url.rstrip("/")
        self.connection = connection

    @classmethod
    def open(cls, url: str, connection: Connection | None = None) -> Bucket:
        """Open the store at *url* (see :func:`~include.engine.store.stores.open_store`).  Nothing is asked of it yet.

        :raises Misconfigured: when the URL is none that is known
        """
        return cls(open_store(url, connection), url, connection)

    def create(self, key: str, data: bytes) -> bool:
        """Store *data* unless *key* exists.  Give whether it was stored; an existing object is never touched.

        False does not prove that somebody else wrote it: the answer to our own first try may have been lost.  Whoever must
        know reads it back.
        """

        def put() -> bool:
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return self._asked(put, key)

    def upload(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> None:
        """Store the bytes of *chunks* as *key*, in parts and several at once, with memory independent of their sum.

        The object appears as a whole or not at all.  *chunks* is iterated in this thread and may itself use a bucket; its
        error ends the upload and comes through as it is.

        :param expected_bytes: about how many will come, when that may be more than 150 GB: S3 counts parts, so they must be larger
        :raises Unsupported: when there are more bytes than the store's parts can hold
        """
        part = _part_bytes(expected_bytes)
        limit = None if self._scheme in ("file", "memory") else part * PARTS_LIMIT
        pipe = Pipe()
        # obstore pulls from a thread of its own: in ours, a source that asks the store for something would make it panic.
        with ThreadPoolExecutor(1, thread_name_prefix="upload") as pool:
            stored = pool.submit(
                obstore.put,
                self._store,
                key,
                iter(pipe),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=max(1, PARTS_AT_ONCE * PART_BYTES // part),
            )
            stored.add_done_callback(lambda _: pipe.abandon())
            try:
                _pour(chunks, pipe, key, limit)
            except ReaderGone:
                pass  # the store failed: its error is raised below
            except BaseException as error:
                pipe.fail(error)
                raise
            finally:
                if isinstance(chunks, Generator):
                    chunks.close()
            self._asked(stored.result, key)

    def read(self, key: str) -> bytes:
        """Give a small object whole.

        :raises NotFound: when it is not there
        """
        return self._asked(lambda: bytes(obstore.get(self._store, key).bytes()), key)

    def fetch(self, key: str, *, ahead: int = RANGES_AHEAD) -> Fetched:
        """Give an object's size and its bytes in order.

        The bytes are fetched in ranges, *ahead* of them before the reader wants them, so that a broken connection costs a
        range and a slow reader costs no memory.  An object that fits in one range takes one request.

        :raises NotFound: when it is not there
        """
        size, first = self._asked(lambda: self._first_range(key), key)
        return Fetched(size, self._ranges(key, size, first, ahead))

    def stream(self, key: str) -> Iterator[bytes]:
        """Give an object's bytes in order (see :meth:`fetch`).

        :raises NotFound: when it is not there
        """
        return self.fetch(key).chunks

    def size(self, key: str) -> int:
        """Give an object's size in bytes.

        :raises NotFound: when it is not there
        """
        return int(self._asked(lambda: obstore.head(self._store, key)["size"], key))

    def exists(self, key: str) -> bool:
        """Say whether *key* is there."""
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[StoredObject]:
        """Give all objects below the folder *prefix*, in the store's order; with *after*, only keys greater than it.

        S3 lists in the order of the keys' bytes, a local folder in no order at all.
        """
        batches = self._asked(
            lambda: obstore.list(self._store, prefix.strip("/") or None, offset=after, chunk_size=1000), prefix
        )

        def batch() -> tuple[ObjectMeta, ...]:
            return tuple(next(batches, ()))

        while found := self._asked(batch, prefix):
            for meta in found:
                yield StoredObject(meta["path"], int(meta["size"]), meta["last_modified"].astimezone(UTC))

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the folders directly below *prefix*, sorted."""
        listed = self._asked(lambda: obstore.list_with_delimiter(self._store, prefix.strip("/") or None), prefix)
        return tuple(sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in listed["common_prefixes"]))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects.  Removing what is not there is no error.

        :raises Unauthorized: when the store refuses one, after all others were tried
        """
        refused = self.delete_allowed(keys)
        if refused:
            raise Unauthorized(
                f"the object store refused to delete {len(refused)} object(s); the first is {refused[0]}",
                hint="check for an object lock, and the rights of the store's connection",
            )

    def delete_allowed(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Remove objects, several at once, and give the keys that the store refuses to remove: locked, or not ours to delete."""
        with ThreadPoolExecutor(_DELETES_AT_ONCE, thread_name_prefix="delete") as pool:
            return tuple(key for key, gone in pool.map(self._delete, keys) if not gone)

    def sign(self, method: str, key: str, expires: timedelta) -> str:
        """Give a URL with which anybody may GET or PUT *key* until it expires: a node needs no credential.

        :raises Misconfigured: when the store has no such URLs
        """
        try:
            return str(obstore.sign(self._store, method, key, expires))  # type: ignore[call-overload]
        except (BaseError, ValueError, TypeError) as error:
            raise Misconfigured(
                f"{self.url} cannot sign URLs: {brief(error)}",
                hint="use an S3, GCS or Azure store for targets whose nodes upload",
            ) from error

    @property
    def _scheme(self) -> str:
        return urlsplit(self.url).scheme

    def _delete(self, key: str) -> tuple[str, bool]:
        try:
            self._asked(lambda: obstore.delete(self._store, key), key)
        except NotFound:
            return key, True
        except Unauthorized:
            return key, False
        return key, True

    def _first_range(self, key: str) -> tuple[int, bytes]:
        try:
            answer = obstore.get(self._store, key, options={"range": (0, RANGE_BYTES)})
        except (BaseError, ValueError):
            if obstore.head(self._store, key)["size"] == 0:  # no range of an empty object is a valid one
                return 0, b""
            raise
        return int(answer.meta["size"]), bytes(answer.bytes())

    def _ranges(self, key: str, size: int, first: bytes, ahead: int) -> Iterator[bytes]:
        if first:
            yield first
        if size <= RANGE_BYTES:
            return
        with ThreadPoolExecutor(ahead, thread_name_prefix="fetch") as pool:
            wanted: deque[Future[bytes]] = deque()
            try:
                for start in range(RANGE_BYTES, size, RANGE_BYTES):
                    wanted.append(pool.submit(self._range, key, start, min(RANGE_BYTES, size - start)))
                    if len(wanted) >= ahead:
                        yield wanted.popleft().result()
                while wanted:
                    yield wanted.popleft().result()
            finally:
                for future in wanted:
                    future.cancel()

    def _range(self, key: str, start: int, length: int) -> bytes:
        return self._asked(lambda: bytes(obstore.get_range(self._store, key, start=start, length=length)), key)

    def _asked(self, question: Callable[[], Result], key: str) -> Result:
        try:
            return question()
        except (BaseError, OSError, ValueError) as error:
            raise explained(error, self.url, key) from error


def _part_bytes(expected_bytes: int | None) -> int:
    # A tenth more than expected still fits, in whole MiB.
    needed = (expected_bytes or 0) * 11 // 10 // PARTS_LIMIT
    return max(PART_BYTES, -(-needed // (1 << 20)) << 20)


def _pour(chunks: Iterable[bytes], pipe: Pipe, key: str, limit: int | None) -> None:
    poured = 0
    for chunk in chunks:
        poured += pipe.write(chunk)
        if limit is not None and poured > limit:
            raise Unsupported(
                f"{key} has more than {limit} bytes, which is what {PARTS_LIMIT} parts of this upload can hold",
                hint="give the upload its expected size, or split the object",
            )
    pipe.finish()
