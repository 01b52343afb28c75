"""Objects that the backups of one target share: named by their SHA-256, written once, sent by whoever has the bytes.

A node that has a file gets a signed URL for exactly these bytes: the store refuses others, and refuses to write twice unless a
backup asks for that, to mend what is not what its name says.  What is here already is neither sent nor read.
:mod:`include.engine.store.sweep` removes what no manifest names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from include.engine.errors import Corrupt, TransientError
from include.engine.model import Entry, Target
from include.engine.sharing import SignedRequest
from include.engine.store.bucket import Bucket
from include.engine.store.s3 import S3, explaining, is_s3, s3_of

_UNLESS = "If-None-Match"
_AZURE_HEADERS = {"x-ms-blob-type": "BlockBlob", _UNLESS: "*"}
_GCS_HEADERS: Mapping[str, str] = {}  # signed without headers: the name is the digest, a second write is the same bytes


def shared_folder(target: Target) -> str:
    """Give the folder of the objects that the backups of *target* share."""
    return f"{target}/objects"


def store_once(bucket: Bucket, key: str, content: bytes, *, again: bool = False) -> None:
    """Store *content* unless *key* is there: then it is the same, as its digest is in its key.

    Asked for first: a store may refuse a large body that it has already by closing the connection in its middle.

    :param again: over what is there, too: it may have rotted
    """
    if again:
        bucket.upload(key, [content])
        return
    if bucket.exists(key):
        return
    try:
        bucket.create(key, content)
    except TransientError:
        if not bucket.exists(key):
            raise


class SharedFolder:
    """``<system>/<name>/objects/`` of one target (see ``contracts.SharedObjects``)."""

    def __init__(self, bucket: Bucket, target: Target) -> None:
        self._bucket = bucket
        self._folder = shared_folder(target)
        self._s3: S3 | None = None

    def key(self, sha256: str) -> str:
        """Give the key of the object with this digest."""
        return f"{self._folder}/{sha256}"

    def stored(self) -> dict[str, int]:
        """Give the size of every object that is there, by its digest: one request for a thousand."""
        return {found.key.rpartition("/")[2]: found.bytes for found in self._bucket.list(self._folder)}

    def put(self, content: bytes, *, again: bool = False) -> Entry:
        """Store a small document unless it is there, or *again*, and give its entry, named after its digest."""
        sha256 = hashlib.sha256(content).hexdigest()
        store_once(self._bucket, self.key(sha256), content, again=again)
        return Entry(name=sha256, key=self.key(sha256), bytes=len(content), sha256=sha256)

    def sign_put(self, sha256: str, expires: timedelta, *, again: bool = False) -> SignedRequest:
        """Sign the upload of the object with this digest.  Its headers must be sent as they are: they are signed, too.

        :param again: also over an object that is there.  The store compares the bytes with the digest before they take its
            place (S3; others trust the sender), so an object never becomes less than what its name says
        :raises Misconfigured: when the store has no signed URLs
        """
        if not is_s3(self._bucket):
            azure = urlsplit(self._bucket.url).scheme == "az"
            url = self._bucket.sign("PUT", self.key(sha256), expires)
            headers = dict(_AZURE_HEADERS if azure else _GCS_HEADERS)
            return SignedRequest(url=url, headers={k: v for k, v in headers.items() if not again or k != _UNLESS})
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        unless = {} if again else {"IfNoneMatch": "*"}
        url = self._presigned("put_object", sha256, expires, ChecksumSHA256=checksum, **unless)
        headers = {"x-amz-checksum-sha256": checksum} | ({} if again else {_UNLESS: "*"})
        return SignedRequest(url=url, headers=headers)

    def sign_get(self, entry: Entry, expires: timedelta) -> SignedRequest:
        """Sign the download of an object.

        :raises Misconfigured: when the store has no signed URLs
        """
        return SignedRequest(url=self._bucket.sign("GET", entry.key, expires))

    # in parts, for what is too large for one piece: S3 only -------------------------------------------------------------

    def begin_parts(self, sha256: str) -> str:
        """Begin an upload in parts and give its name.

        :raises Unsupported: when the store is not S3
        """
        s3 = self._client()
        with explaining(self._bucket, self.key(sha256)):
            begun = s3.client.create_multipart_upload(
                Bucket=s3.bucket, Key=s3.key(self.key(sha256)), ChecksumAlgorithm="SHA256"
            )
        return str(begun["UploadId"])

    def sign_part(self, sha256: str, upload: str, number: int, part_sha256: str, expires: timedelta) -> SignedRequest:
        """Sign the upload of one part, counted from 1, with exactly the bytes of that digest."""
        checksum = base64.b64encode(bytes.fromhex(part_sha256)).decode()
        url = self._presigned(
            "upload_part", sha256, expires, UploadId=upload, PartNumber=number, ChecksumSHA256=checksum
        )
        return SignedRequest(url=url, headers={"x-amz-checksum-sha256": checksum})

    def finish_parts(self, sha256: str, upload: str, size: int) -> None:
        """Put the parts together as the store lists them.

        :raises Corrupt: when they have not *size* bytes together; the upload is abandoned
        """
        s3 = self._client()
        key = s3.key(self.key(sha256))
        with explaining(self._bucket, self.key(sha256)):
            parts: list[dict[str, Any]] = []
            for page in s3.client.get_paginator("list_parts").paginate(Bucket=s3.bucket, Key=key, UploadId=upload):
                parts += page.get("Parts", [])
            if sum(int(part["Size"]) for part in parts) != size:
                self.abandon_parts(sha256, upload)
                raise Corrupt(
                    f"{self.key(sha256)} arrived with {sum(int(p['Size']) for p in parts)} bytes instead of {size}",
                    hint="run the copy again: it goes on with what is missing",
                )
            named = ("PartNumber", "ETag", "ChecksumSHA256")
            done = [{name: part[name] for name in named if name in part} for part in parts]
            s3.client.complete_multipart_upload(
                Bucket=s3.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
            )

    def abandon_parts(self, sha256: str, upload: str) -> None:
        """Drop an upload in parts, and what was sent of it."""
        s3 = self._client()
        with explaining(self._bucket, self.key(sha256)):
            s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=s3.key(self.key(sha256)), UploadId=upload)

    def _client(self) -> S3:
        if self._s3 is None:
            self._s3 = s3_of(self._bucket)
        return self._s3

    def _presigned(self, operation: str, sha256: str, expires: timedelta, **extra: object) -> str:
        s3 = self._client()
        place = {"Bucket": s3.bucket, "Key": s3.key(self.key(sha256))}
        with explaining(self._bucket, self.key(sha256)):
            url: str = s3.client.generate_presigned_url(
                operation, Params=place | extra, ExpiresIn=int(expires.total_seconds())
            )
        return url
