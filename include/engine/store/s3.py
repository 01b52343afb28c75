"""What only S3 itself can do (multipart uploads that never ended, object lock): a boto3 client for the same bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from include.engine.errors import Unsupported
from include.engine.store.bucket import Bucket
from include.engine.store.failures import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_HURRY = 5  # seconds


class S3(Struct, frozen=True):
    """A boto3 client, the name of the bucket, and the prefix of all keys in it (empty, or with a slash at its end)."""

    client: Any  # S3Client; a Struct cannot name a type that is only there for type checkers
    bucket: str
    prefix: str

    def key(self, relative: str) -> str:
        """Give the key in S3 of a key in the :class:`Bucket`."""
        return f"{self.prefix}{relative}"

    def relative(self, key: str) -> str:
        """Give the key in the :class:`Bucket` of a key in S3."""
        return key.removeprefix(self.prefix)


def is_s3(bucket: Bucket) -> bool:
    """Say whether *bucket* is one of S3's."""
    return urlsplit(bucket.url).scheme == "s3"


def s3_of(bucket: Bucket, *, patient: bool = True) -> S3:
    """Open S3's own client with the credentials of *bucket*.

    :param patient: try for as long as the connection says; otherwise once, for some seconds
    :raises Unsupported: when *bucket* is not one of S3's
    """
    if not is_s3(bucket):
        raise Unsupported(f"{bucket.url} is not an S3 store", hint="this works with s3:// stores only")
    parts = urlsplit(bucket.url)
    prefix = parts.path.strip("/")
    return S3(client=_client(bucket, patient=patient), bucket=parts.netloc, prefix=f"{prefix}/" if prefix else "")


@contextmanager
def explaining(bucket: Bucket, key: str = "") -> Iterator[None]:
    """Turn boto3's errors into ours (see :func:`~include.engine.store.failures.explained`)."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise explained(error, bucket.url, key) from error


def _client(bucket: Bucket, *, patient: bool) -> S3Client:
    import boto3
    from botocore.config import Config

    connection = bucket.connection
    extra = connection.extra if connection else {}
    endpoint = extra.get("endpoint_url") or None
    config = Config(
        connect_timeout=10 if patient else _HURRY,
        read_timeout=float(extra.get("timeout_seconds", "120")) if patient else _HURRY,
        retries={"max_attempts": int(extra.get("max_retries", "8")) + 1 if patient else 1, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "auto"},
        signature_version="s3v4",  # the older one, which signed URLs still default to, signs no headers
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=extra.get("region_name", "us-east-1"),
        aws_access_key_id=(connection.login or None) if connection else None,
        aws_secret_access_key=(connection.password or None) if connection else None,
        aws_session_token=extra.get("aws_session_token") or extra.get("session_token"),
        config=config,
    )
