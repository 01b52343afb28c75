"""The contract for objects that backups share and that do not pass through us: whoever has the bytes sends them, signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from msgspec import Struct

from include.engine.model import Entry


class SignedRequest(Struct, frozen=True, kw_only=True):
    """A request that whoever has it may send until it expires.  Its URL is a secret, so its ``repr`` hides it."""

    url: str
    headers: Mapping[str, str] = {}  # part of the signature: sent as they are

    def __repr__(self) -> str:
        return f"SignedRequest({self.url.partition('?')[0]})"


class SharedObjects(Protocol):
    """The objects that the backups of one target share, named by their SHA-256 and written once.

    For data that does not pass through us: whoever has the bytes sends them with a signed request.
    """

    def key(self, sha256: str) -> str:
        """Give the key of the object with this digest."""
        ...

    def stored(self) -> Mapping[str, int]:
        """Give the size of every object that is there, by its digest."""
        ...

    def put(self, content: bytes, *, again: bool = False) -> Entry:
        """Store a small document unless it is there, and give its entry, named after its digest.

        :param again: store it whether it is there or not
        """
        ...

    def sign_put(self, sha256: str, expires: timedelta, *, again: bool = False) -> SignedRequest:
        """Sign the upload of exactly the bytes with this digest.

        :param again: also over an object that is there: it becomes what its name says, or stays as it was
        :raises Misconfigured: when the store has no signed URLs
        """
        ...

    def begin_parts(self, sha256: str) -> str:
        """Begin an upload in parts, for what is too large for one request, and give its name.

        :raises Unsupported: when the store has no such uploads
        """
        ...

    def sign_part(self, sha256: str, upload: str, number: int, part_sha256: str, expires: timedelta) -> SignedRequest:
        """Sign the upload of one part, counted from 1, with exactly the bytes of that digest."""
        ...

    def finish_parts(self, sha256: str, upload: str, size: int) -> None:
        """Make the object of the parts that arrived.

        :raises Corrupt: when they have not *size* bytes together; the upload is abandoned
        """
        ...

    def abandon_parts(self, sha256: str, upload: str) -> None:
        """Drop an upload in parts, and what was sent of it."""
        ...
