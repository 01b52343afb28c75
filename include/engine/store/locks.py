"""Object lock: until when nobody, not even we, can delete an object.  S3 only; the bucket must have been made with it.

A lock protects a *version*.  S3 lets a plain delete of a locked object pass and merely hides it behind a delete marker, so
expiry asks for the lock first, and the bucket's lifecycle must remove versions that are no longer current.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import StrEnum

from include.engine.errors import MainstayError, NotFound, Unsupported
from include.engine.store.bucket import Bucket
from include.engine.store.s3 import S3, explaining, s3_of

_AT_ONCE = 8
_NONE = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest")
_GONE = ("NoSuchKey", "404")


class LockMode(StrEnum):
    """Who can lift a lock: nobody at all, or whoever has the special right to."""

    COMPLIANCE = "COMPLIANCE"
    GOVERNANCE = "GOVERNANCE"


class ObjectLocks:
    """The locks on the objects of a bucket."""

    def __init__(self, bucket: Bucket, s3: S3, mode: LockMode) -> None:
        self._bucket = bucket
        self._s3 = s3
        self._mode = mode

    @classmethod
    def of(cls, bucket: Bucket, *, mode: LockMode = LockMode.COMPLIANCE) -> ObjectLocks:
        """Open the locks of *bucket*.

        :param mode: of the locks that are set
        :raises Unsupported: when *bucket* is not one of S3's
        """
        return cls(bucket, s3_of(bucket), mode)

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        """Lock objects until *until*; one that is locked for longer stays so.

        :raises Unsupported: when the bucket was made without object lock
        :raises NotFound: when an object is not there
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lock") as pool:
            for _ in pool.map(lambda key: self._lock(key, until.astimezone(UTC)), keys):
                pass

    def locked_until(self, key: str) -> datetime | None:
        """Give until when *key* is locked; nothing when it is not, or is not there."""
        from botocore.exceptions import ClientError

        with explaining(self._bucket, key):
            try:
                answer = self._s3.client.get_object_retention(Bucket=self._s3.bucket, Key=self._s3.key(key))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in (*_NONE, *_GONE):
                    return None
                raise
        until: datetime | None = answer.get("Retention", {}).get("RetainUntilDate")
        return until.astimezone(UTC) if until else None

    def _lock(self, key: str, until: datetime) -> None:
        locked = self.locked_until(key)
        if locked is not None and locked >= until:
            return
        try:
            self._put(key, until)
        except MainstayError as error:
            if any(word in error.message for word in _NONE):
                raise Unsupported(
                    f"{self._bucket.url} was made without object lock",
                    hint="make a new bucket with object lock, or leave `lock` out of the inventory's store",
                ) from error
            if any(word in error.message for word in _GONE):
                raise NotFound(
                    f"{self._bucket.url}/{key} is not in the store", hint="only stored objects can be locked"
                ) from error
            raise

    def _put(self, key: str, until: datetime) -> None:
        with explaining(self._bucket, key):
            self._s3.client.put_object_retention(
                Bucket=self._s3.bucket,
                Key=self._s3.key(key),
                Retention={"Mode": str(self._mode), "RetainUntilDate": until},
            )
