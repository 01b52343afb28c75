"""Writes and reads the objects of backups: hashed on the way in, compared on the way out, encrypted when asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from include.engine.errors import Corrupt, NotFound, Refused, Unsupported
from include.engine.model import Encryption, Entry, Manifest, Target
from include.engine.store import encryption
from include.engine.store.bucket import RANGES_AHEAD, Bucket
from include.engine.store.shared import shared_folder, store_once
from include.engine.store.uploads import abandon

_SUFFIX = f".{encryption.SCHEME}"
_HINT = "restore from another backup of this target, and take a new full backup now"


class VaultWriter:
    """Stores the objects of one attempt under a folder that is the attempt's alone.  Several threads may write at once.

    :param folder: ``<system>/<name>/backups/<id>/<attempt>``
    :param recipients: age public keys; empty stores in the clear
    """

    def __init__(self, bucket: Bucket, folder: str, *, recipients: Sequence[str] = ()) -> None:
        self._bucket = bucket
        self._folder = folder.rstrip("/")
        self._recipients = tuple(recipients)
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self.written: list[Entry] = []

    @property
    def encryption(self) -> Encryption | None:
        """How this writer encrypts, for the manifest."""
        return Encryption(scheme=encryption.SCHEME, key_ids=self._recipients) if self._recipients else None

    def write(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        original_bytes: Callable[[], int] | None = None,
        expected_bytes: int | None = None,
    ) -> Entry:
        """Store *chunks* as one object and give its entry (see ``contracts.Writer``).

        :param expected_bytes: about how many there will be, when that may be more than 150 GB
        :raises Refused: when this attempt wrote *name* before, or *name* ends like an encrypted object's key
        """
        self._take(name)
        digest = hashlib.sha256()
        size = 0

        def hashed(source: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size
            for chunk in source:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        key = f"{self._folder}/{name}{_SUFFIX if self._recipients else ''}"
        sealed = encryption.encrypt(chunks, self._recipients) if self._recipients else chunks
        try:
            self._bucket.upload(key, hashed(sealed), expected_bytes=expected_bytes)
        except BaseException:
            abandon(self._bucket, key)  # its parts are nobody's now, and cost money until they are swept
            raise
        entry = Entry(
            name=name,
            key=key,
            bytes=size,
            sha256=digest.hexdigest(),
            original_bytes=original_bytes() if original_bytes else None,
        )
        self.written.append(entry)
        return entry

    def share(self, name: str, data: bytes, *, original_bytes: int | None = None, again: bool = False) -> Entry:
        """Store *data* once for this and later backups of the target (see ``contracts.Writer``).

        :raises Refused: when *name* ends like an encrypted object's key
        """
        self._take(name)
        sealed = b"".join(encryption.encrypt([data], self._recipients)) if self._recipients else data
        digest = hashlib.sha256(sealed).hexdigest()
        target = Target.parse("/".join(self._folder.split("/")[:2]))
        stem, dot, suffix = name.rpartition(".")
        marked = f"{stem}.{digest[:20]}.{suffix}" if dot else f"{name}.{digest[:20]}"
        key = f"{shared_folder(target)}/{marked}{_SUFFIX if self._recipients else ''}"
        store_once(self._bucket, key, sealed, again=again)
        entry = Entry(name=name, key=key, bytes=len(sealed), sha256=digest, original_bytes=original_bytes)
        self.written.append(entry)
        return entry

    def _take(self, name: str) -> None:
        if name.endswith(_SUFFIX):
            raise Refused(
                f"the name {name!r} ends like the key of an encrypted object", hint=f"name it without {_SUFFIX}"
            )
        with self._lock:
            if name in self._taken:
                raise Refused(
                    f"{self._folder}/{name} was written by this attempt already",
                    hint="objects are written once; name it otherwise",
                )
            self._taken.add(name)


class VaultReader:
    """Reads objects back and believes nothing.  Several threads may read at once.

    :param identities: age secret keys; more than one allows old and new keys side by side
    :param manifests: the backups that will be read.  With them, a missing key is told by its id, at once, and is never
        confused with a damaged object
    """

    def __init__(self, bucket: Bucket, *, identities: Sequence[str] = (), manifests: Iterable[Manifest] = ()) -> None:
        self._bucket = bucket
        self._identities = tuple(identities)
        self._key_ids: Mapping[str, tuple[str, ...]] = {
            entry.key: _key_ids(manifest)
            for manifest in manifests
            for entry in manifest.entries
            if entry.key.endswith(_SUFFIX)
        }

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Give the decrypted bytes of *entry* (see ``contracts.Reader``)."""
        if not entry.key.endswith(_SUFFIX):
            return self.stored(entry)
        key_ids = self._key_ids.get(entry.key, ())
        return encryption.decrypt(self.stored(entry), self._identities, what=entry.key, key_ids=key_ids)

    def stored(self, entry: Entry, *, ahead: int = RANGES_AHEAD) -> Iterator[bytes]:
        """Give the bytes of *entry* as they are stored, compared with the entry at the end.  Needs no key.

        :param ahead: how many ranges of 4 MiB to fetch before they are asked for
        :raises Corrupt: when the object is missing, of another size or of another digest
        """
        try:
            fetched = self._bucket.fetch(entry.key, ahead=ahead)
        except NotFound as error:
            raise Corrupt(f"{entry.key} is missing from the store", hint=_HINT) from error
        if fetched.size != entry.bytes:
            raise Corrupt(f"{entry.key} has {fetched.size} bytes in the store, {entry.bytes} were written", hint=_HINT)
        digest = hashlib.sha256()
        for chunk in fetched.chunks:
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            raise Corrupt(f"{entry.key} is not what was written: its SHA-256 differs from the manifest's", hint=_HINT)


def _key_ids(manifest: Manifest) -> tuple[str, ...]:
    if manifest.encryption is None:
        return ()
    if manifest.encryption.scheme != encryption.SCHEME:
        raise Unsupported(
            f"{manifest.target} {manifest.id} is encrypted with {manifest.encryption.scheme}, this Mainstay knows "
            f"{encryption.SCHEME}",
            hint="use the Mainstay that wrote it, or a newer one",
        )
    return manifest.encryption.key_ids
