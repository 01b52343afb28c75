"""How documents are written to the bucket and read back strictly."""

from __future__ import annotations

import threading
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
        version = _decoder(_Versioned).decode(raw).version
        if version > MANIFEST_VERSION:
            raise Unsupported(
                f"{where} was written by a newer Mainstay (document version {version}, this one reads up to {MANIFEST_VERSION})",
                hint="use the Mainstay that wrote it, or a newer one",
            )
        return _decoder(kind).decode(raw)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"{where} is not a valid {kind.__name__}: {error}",
            hint="verify the set; if the object was damaged, restore an older one and take a new backup now",
        ) from error


class _Versioned(Struct):
    version: int = MANIFEST_VERSION


# msgspec prepares a type when it is first used, and a second thread that comes meanwhile crashes the process: one at a time.
_preparing = threading.Lock()
_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[Document]) -> msgspec.json.Decoder[Document]:
    with _preparing:
        if kind not in _decoders:
            _decoders[kind] = msgspec.json.Decoder(kind)
        return _decoders[kind]
