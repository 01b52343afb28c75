"""How documents are written to the bucket and read back strictly."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt, Unsupported

MANIFEST_VERSION = 1
JsonValue = Any  # what JSON can carry; each system decodes its own part into a Struct of its own

Document = TypeVar("Document", bound=Struct)


def encode(document: Struct) -> bytes:
    """Encode a document for the bucket: JSON, indented, because people read it when all else is gone."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(raw: bytes, kind: type[Document], *, where: str) -> Document:
    """Read a document back.

    :param where: the key it came from, for the error
    :raises Unsupported: when a newer Mainstay wrote it
    :raises Corrupt: when it is not such a document
    """
    try:
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version > MANIFEST_VERSION:
            raise Unsupported(
                f"{where} was written by a newer Mainstay (document version {version}, this one reads up to {MANIFEST_VERSION})",
                hint="use the Mainstay that wrote it, or a newer one",
            )
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"{where} is not a valid {kind.__name__}: {error}",
            hint="verify the set; if the object was damaged, restore an older one and take a new backup now",
        ) from error


class _Versioned(Struct):
    version: int = MANIFEST_VERSION
