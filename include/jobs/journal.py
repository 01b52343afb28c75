"""The notes beside the checkpoint: launches, wishes, what a launch found and how it ended.  Each is written once, by name."""

from __future__ import annotations

import json
from typing import Any

FOLDER = "_mainstay"


class Journal:
    """The notes, through Spark's own file systems, wherever the checkpoint is.

    :param session: a SparkSession
    :param checkpoint: as Spark writes it
    """

    def __init__(self, session: Any, checkpoint: str) -> None:
        self._documents = session._jvm.mainstay.stream.Documents  # noqa: SLF001 - our own classes have no other door
        self._hadoop = session._jsc.hadoopConfiguration()  # noqa: SLF001
        self._root = checkpoint.rstrip("/")

    def names(self, folder: str) -> list[str]:
        """Give the documents of *folder* below the checkpoint, in order; hidden ones and drafts (``000002.json#1``) are none."""
        found = self._documents.names(f"{self._root}/{folder}", self._hadoop)
        return sorted(name for name in found if name[0] != "." and "#" not in name)

    def text(self, path: str) -> str | None:
        """Give the text at *path* below the checkpoint; None when there is none."""
        found = self._documents.read(f"{self._root}/{path}", self._hadoop)
        return None if found is None else str(found)

    def create(self, path: str, document: dict[str, Any]) -> bool:
        """Write a note unless it is there; give whether it was written."""
        return bool(self._documents.create(f"{self._root}/{FOLDER}/{path}", json.dumps(document), self._hadoop))

    def note(self, path: str) -> dict[str, Any] | None:
        """Give a note; None when there is none."""
        text = self.text(f"{FOLDER}/{path}")
        return None if text is None else json.loads(text)

    def newest(self, kind: str) -> str | None:
        """Give the name of the newest note of a kind."""
        return next(reversed(self.names(f"{FOLDER}/{kind}")), None)

    def committed(self, flow: str) -> tuple[int, str] | None:
        """Give the last finished batch of a flow and its end offsets, as Spark wrote them; None before the first."""
        batches = [int(name) for name in self.names(f"{flow}/commits") if name.isdecimal()]
        if not batches:
            return None
        text = self.text(f"{flow}/offsets/{max(batches)}") or ""
        lines = text.splitlines()
        return (max(batches), lines[2]) if len(lines) > 2 else None
