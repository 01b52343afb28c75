"""Writes and reads the objects of backups: hashed on the way in, compared on the way out, encrypted when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from include.engine.errors import Corrupt, NotFound, Refused
from include.engine.model import Encryption, Entry
from include.engine.store import encryption
from include.engine.store.bucket import Bucket


class VaultWriter:
    """Stores the objects of one attempt under a folder that is the attempt's alone.

    :param folder: ``<system>/<name>/backups/<id>/<attempt>``
    :param recipients: age public keys; empty stores in the clear
    """

    def __init__(self, bucket: Bucket, folder: str, *, recipients: Sequence[str] = ()) -> None:
        self._bucket = bucket
        self._folder = folder.rstrip("/")
        self._recipients = tuple(recipients)
        self.written: list[Entry] = []

    @property
    def encryption(self) -> Encryption | None:
        """How this writer encrypts, for the manifest."""
        return Encryption(scheme=encryption.SCHEME, key_ids=self._recipients) if self._recipients else None

    def write(self, name: str, chunks: Iterable[bytes], *, original_bytes: Callable[[], int] | None = None) -> Entry:
        """Store *chunks* as one object and give its entry (see ``contracts.Writer``)."""
        digest = hashlib.sha256()
        size = 0

        def hashed(source: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size
            for chunk in source:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        suffix = f".{encryption.SCHEME}" if self._recipients else ""
        key = f"{self._folder}/{name}{suffix}"
        if any(entry.key == key for entry in self.written):
            raise Refused(
                f"{key} was written by this attempt already", hint="objects are written once; name it otherwise"
            )
        sealed = encryption.encrypt(chunks, self._recipients) if self._recipients else chunks
        self._bucket.upload(key, hashed(sealed))
        entry = Entry(
            name=name,
            key=key,
            bytes=size,
            sha256=digest.hexdigest(),
            original_bytes=original_bytes() if original_bytes else None,
        )
        self.written.append(entry)
        return entry


class VaultReader:
    """Reads objects back and believes nothing.

    :param identities: age secret keys; more than one allows old and new keys side by side
    """

    def __init__(self, bucket: Bucket, *, identities: Sequence[str] = ()) -> None:
        self._bucket = bucket
        self._identities = tuple(identities)

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Give the decrypted bytes of *entry* (see ``contracts.Reader``)."""
        stored = self.stored(entry)
        if not entry.key.endswith(f".{encryption.SCHEME}"):
            return stored
        return encryption.decrypt(stored, self._identities, what=entry.key)

    def stored(self, entry: Entry) -> Iterator[bytes]:
        """Give the bytes of *entry* as they are stored, compared with the entry at the end.  Needs no key.

        :raises Corrupt: when the object is missing, of another size or of another digest
        """
        hint = "restore from another backup of this target, and take a new full backup now"
        try:
            size = self._bucket.size(entry.key)
        except NotFound as error:
            raise Corrupt(f"{entry.key} is missing from the store", hint=hint) from error
        if size != entry.bytes:
            raise Corrupt(f"{entry.key} has {size} bytes in the store, {entry.bytes} were written", hint=hint)
        digest = hashlib.sha256()
        for chunk in self._bucket.stream(entry.key, size=size):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            raise Corrupt(f"{entry.key} is not what was written: its SHA-256 differs from the manifest's", hint=hint)
