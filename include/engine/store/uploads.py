"""Multipart uploads that were begun and never ended: nobody lists them, everybody pays for them.

An upload that dies with its process leaves its parts in S3.  They are aborted when they are old enough and no attempt that may
be at them holds a lease; one that fails aborts its own at once.  GCS and Azure drop such parts after a week, by themselves.  A
local folder (``file://``) keeps them as hidden files beside the object's place, which no listing shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from include.engine.errors import MainstayError
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.lease import attempt_of, live_leases
from include.engine.store.s3 import S3, explaining, is_s3, s3_of

UPLOAD_AGE = timedelta(hours=48)


class Unfinished(Struct, frozen=True, kw_only=True, order=True):
    """A multipart upload that was neither completed nor aborted.  ``bytes`` is what its parts take."""

    key: str
    upload: str
    started: datetime
    bytes: int


class UploadsReport(Struct, frozen=True, kw_only=True):
    """What was aborted, or would be."""

    dry_run: bool
    aborted: tuple[Unfinished, ...]
    spared: int  # too young, or their attempt is running

    @property
    def bytes(self) -> int:
        """Bytes that the aborted uploads took."""
        return sum(upload.bytes for upload in self.aborted)


def unfinished_uploads(bucket: Bucket) -> list[Unfinished]:
    """Give all uploads below the bucket's prefix that were begun and not ended, sorted by key; none for other stores than S3."""
    if not is_s3(bucket):
        return []
    s3 = s3_of(bucket)
    with explaining(bucket):
        return sorted(_listed(s3))


def abort_unfinished(
    catalog: Catalog, *, now: datetime, older_than: timedelta = UPLOAD_AGE, dry_run: bool = True
) -> UploadsReport:
    """Abort the uploads that began more than *older_than* ago and belong to no attempt with a live lease."""
    bucket = catalog.bucket
    found = unfinished_uploads(bucket)
    held = {folder for target in catalog.targets() for folder in live_leases(bucket, target, now)} if found else set()
    stale = abandoned(found, held=held, before=now - older_than)
    if stale and not dry_run:
        _abort(bucket, stale)
    return UploadsReport(dry_run=dry_run, aborted=tuple(stale), spared=len(found) - len(stale))


def abandoned(found: Iterable[Unfinished], *, held: Collection[str], before: datetime) -> list[Unfinished]:
    """Give the uploads that nobody will end.  Pure.

    :param held: folders of attempts with a live lease; what the backups of a target share may be uploaded by any of its attempts
    """
    targets = {_target_of(folder) for folder in held}
    return [upload for upload in found if upload.started < before and not _held(upload.key, held, targets)]


def _held(key: str, folders: Collection[str], targets: Collection[str]) -> bool:
    attempt = attempt_of(key)
    return attempt in folders if attempt is not None else _target_of(key) in targets


def _target_of(key: str) -> str:
    return "/".join(key.split("/")[:2])


def abandon(bucket: Bucket, key: str) -> None:
    """Abort what was begun of *key*, after an upload of it has failed; what cannot be aborted now is left to upkeep.

    *key* must be this attempt's alone.  A store that does not answer is not waited for.
    """
    if not is_s3(bucket):
        return
    s3 = s3_of(bucket, patient=False)
    with suppress(MainstayError), explaining(bucket, key):
        begun = s3.client.list_multipart_uploads(Bucket=s3.bucket, Prefix=s3.key(key)).get("Uploads", [])
        for upload in begun:
            if upload["Key"] == s3.key(key):
                s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _abort(bucket: Bucket, uploads: Iterable[Unfinished]) -> None:
    s3 = s3_of(bucket)
    for upload in uploads:
        with explaining(bucket, upload.key):
            try:
                s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=s3.key(upload.key), UploadId=upload.upload)
            except s3.client.exceptions.NoSuchUpload:
                continue  # it ended meanwhile


def _listed(s3: S3) -> Iterator[Unfinished]:
    pages = s3.client.get_paginator("list_multipart_uploads").paginate(Bucket=s3.bucket, Prefix=s3.prefix)
    for page in pages:
        for upload in page.get("Uploads", []):
            yield Unfinished(
                key=s3.relative(upload["Key"]),
                upload=upload["UploadId"],
                started=upload["Initiated"].astimezone(UTC),
                bytes=_part_bytes(s3, upload["Key"], upload["UploadId"]),
            )


def _part_bytes(s3: S3, key: str, upload: str) -> int:
    pages = s3.client.get_paginator("list_parts").paginate(Bucket=s3.bucket, Key=key, UploadId=upload)
    try:
        return sum(int(part["Size"]) for page in pages for part in page.get("Parts", []))
    except s3.client.exceptions.NoSuchUpload:
        return 0  # it ended meanwhile
