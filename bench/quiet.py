"""A progress that says nothing, so that it costs nothing."""

from __future__ import annotations


class Quiet:
    def stage(self, name: str, total_bytes: int | None = None) -> None:
        pass

    def advance(self, bytes_: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass
