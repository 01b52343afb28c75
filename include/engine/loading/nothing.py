"""An operation that does nothing, at once: what the generator's loop itself can do on this machine."""

from __future__ import annotations

from typing import Any

from include.engine.loading.contracts import Done


class Nothing:
    """Answers when it is asked."""

    def submit(self, index: int, done: Done) -> None:  # noqa: ARG002
        """Answer."""
        done(None)

    def poll(self, seconds: float) -> None:
        """Wait for nothing."""

    def close(self) -> None:
        """Let go of nothing."""


def open_operation(parameters: dict[str, Any]) -> Nothing:  # noqa: ARG001
    """Give one."""
    return Nothing()
