"""The object store: one client (obstore) for S3, GCS, Azure, a local folder and memory.

Keys are relative to the prefix of the URL that the bucket was opened with.  Objects are written once: :meth:`Bucket.create`
is conditional, and :meth:`Bucket.upload` is only used with keys that are unique to an attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from msgspec import Struct
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, NotFound, Unauthorized, Unreachable

PART_BYTES = 16 << 20  # of a multipart upload: 10,000 parts make objects of up to 160 GB
PARTS_AT_ONCE = 3
RANGE_BYTES = 8 << 20  # of a download
RANGES_AHEAD = 4

_MEMORY: dict[str, Any] = {}
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403 Forbidden", "401 Unauthorized")

Result = TypeVar("Result")


class StoredObject(Struct, frozen=True, order=True):
    """One object as the store lists it."""

    key: str
    bytes: int
    modified: datetime


class Bucket:
    """A prefix in an object store.

    Usage::

        bucket = Bucket.open("s3://backups/pipeline", connection)
        bucket.upload("a/b", chunks)
        assert bucket.create("a/manifest.json", raw)  # False when it is there already
    """

    def __init__(self, store: Any, url: str, connection: Connection | None = None) -> None:
        self._store = store
        self.url = url.rstrip("/")
        self.connection = connection

    @classmethod
    def open(cls, url: str, connection: Connection | None = None) -> Bucket:
        """Open ``s3://``, ``gs://``, ``az://``, ``file://`` or ``memory://``.  Nothing is asked of the store yet.

        *connection* carries the credentials as Airflow's AWS connection does: login and password are the key pair,
        ``endpoint_url`` and ``region_name`` are extras.  Without one the platform's own credentials are used.

        :raises Misconfigured: when the URL is none of these
        """
        scheme = urlsplit(url).scheme
        openers: dict[str, Callable[[str, Connection | None], Any]] = {
            "s3": _open_s3,
            "gs": _open_plain,
            "az": _open_plain,
            "file": _open_local,
            "memory": _open_memory,
        }
        if scheme not in openers:
            raise Misconfigured(f"{url!r} is not the URL of an object store", hint=f"use one of {', '.join(openers)}")
        try:
            return cls(openers[scheme](url, connection), url, connection)
        except (BaseError, ValueError) as error:
            raise Misconfigured(
                f"{url} cannot be opened: {_brief(error)}", hint="check the URL and its connection"
            ) from error

    def create(self, key: str, data: bytes) -> bool:
        """Store *data* unless *key* exists.  Give whether it was stored; an existing object is never touched."""

        def put() -> bool:
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        return self._asked(put, key)

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        """Store the bytes of *chunks* as *key*, in parts and several at once, with memory independent of their sum.

        The object appears as a whole or not at all.  An error of the iterable ends the upload and comes through.
        """
        failed: list[BaseException] = []

        def watched() -> Iterator[bytes]:
            try:
                yield from chunks
            except BaseException as error:
                failed.append(error)
                raise

        try:
            obstore.put(
                self._store, key, watched(), use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        except BaseException as error:
            if failed:  # ours, whatever the client made of it
                raise failed[0] from error
            if isinstance(error, BaseError | OSError | ValueError):
                raise self._error(error, key) from error
            raise

    def read(self, key: str) -> bytes:
        """Give a small object whole.

        :raises NotFound: when it is not there
        """
        return self._asked(lambda: bytes(obstore.get(self._store, key).bytes()), key)

    def stream(self, key: str, *, size: int | None = None) -> Iterator[bytes]:
        """Give an object's bytes in order, fetched in ranges ahead of the reader, so that a broken connection costs a range.

        :param size: the object's size when the caller knows it; saves a request
        :raises NotFound: when it is not there
        """
        length = self.size(key) if size is None else size
        if length == 0:
            self.size(key)
            return
        with ThreadPoolExecutor(RANGES_AHEAD, thread_name_prefix="fetch") as pool:
            ahead: deque[Future[bytes]] = deque()
            starts = iter(range(0, length, RANGE_BYTES))
            try:
                for start in starts:
                    ahead.append(pool.submit(self._range, key, start, min(RANGE_BYTES, length - start)))
                    if len(ahead) >= RANGES_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

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
        """Give all objects below the folder *prefix*, in the store's order; with *after*, only keys greater than it."""

        def batches() -> Iterator[list[Any]]:
            return iter(obstore.list(self._store, prefix.strip("/") or None, offset=after, chunk_size=1000))

        stream = self._asked(batches, prefix)
        while True:
            batch = self._asked(lambda: next(stream, None), prefix)
            if batch is None:
                return
            for meta in batch:
                yield StoredObject(meta["path"], int(meta["size"]), meta["last_modified"].astimezone(UTC))

    def folders(self, prefix: str) -> list[str]:
        """Give the names of the folders directly below *prefix*, sorted."""
        listed = self._asked(lambda: obstore.list_with_delimiter(self._store, prefix.strip("/") or None), prefix)
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in listed["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects.  Removing what is not there is no error."""
        for key in keys:
            try:
                self._asked(lambda key=key: obstore.delete(self._store, key), key)  # type: ignore[misc]
            except NotFound:
                continue

    def sign(self, method: str, key: str, expires: timedelta) -> str:
        """Give a URL with which anybody may GET or PUT *key* until it expires: a node needs no credential.

        :raises Misconfigured: when the store has no such URLs
        """
        try:
            return str(obstore.sign(self._store, method, key, expires))  # type: ignore[call-overload]
        except (BaseError, ValueError, TypeError) as error:
            raise Misconfigured(
                f"{self.url} cannot sign URLs: {_brief(error)}",
                hint="use an S3, GCS or Azure store for targets whose nodes upload",
            ) from error

    def _range(self, key: str, start: int, length: int) -> bytes:
        return self._asked(lambda: bytes(obstore.get_range(self._store, key, start=start, length=length)), key)

    def _asked(self, question: Callable[[], Result], key: str) -> Result:
        try:
            return question()
        except (BaseError, OSError, ValueError) as error:
            raise self._error(error, key) from error

    def _error(self, error: BaseException, key: str) -> MainstayError:
        where = f"{self.url}/{key}"
        brief = _brief(error)
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{where} is not in the store", hint="`./mainstay catalog` lists what is")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or any(
            word in str(error) for word in _REFUSED
        ):
            return Unauthorized(
                f"the object store refused the request for {where}: {brief}",
                hint="check the key pair of the store's connection and its rights on the bucket",
            )
        return Unreachable(
            f"the object store failed on {where}: {brief}",
            hint="check that the endpoint answers; the run can be repeated",
        )


def _brief(error: BaseException) -> str:
    # obstore appends a Rust debug dump, which may quote request headers: only its first line is for people.
    return str(error).strip().split("\n", 1)[0][:300]


def _open_s3(url: str, connection: Connection | None) -> Any:
    from obstore.store import S3Store

    parts = urlsplit(url)
    extra = connection.extra if connection else {}
    endpoint = extra.get("endpoint_url", "")
    config: dict[str, Any] = {"region": extra.get("region_name", "us-east-1")}
    if connection and connection.login:
        config |= {"access_key_id": connection.login, "secret_access_key": connection.password}
    if extra.get("session_token"):
        config["session_token"] = extra["session_token"]
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=float(extra.get("timeout_seconds", "120"))),
        },
        retry_config={
            "max_retries": int(extra.get("max_retries", "8")),
            "retry_timeout": timedelta(seconds=float(extra.get("retry_seconds", "180"))),
            "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=15), "base": 2},
        },
        **config,
    )


def _open_plain(url: str, connection: Connection | None) -> Any:
    from obstore.store import from_url

    return from_url(url, config=dict(connection.extra) if connection else None)  # type: ignore[call-overload]


def _open_local(url: str, _connection: Connection | None) -> Any:
    from obstore.store import LocalStore

    return LocalStore(urlsplit(url).path, mkdir=True)


def _open_memory(url: str, _connection: Connection | None) -> Any:
    from obstore.store import MemoryStore

    return _MEMORY.setdefault(url.rstrip("/"), MemoryStore())
