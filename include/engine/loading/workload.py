"""What every system's workload can say about itself, beside its own keys."""

from __future__ import annotations

from typing import ClassVar

from include.engine.sections import Section


class LoadWorkload(Section):
    """The operations of a profile.

    :cvar drawn: the times of operations are drawn at random, so that their number varies from one test to the next
    :cvar tried_out: the generator finds out on the target itself, before the load, what it can do
    """

    drawn: ClassVar[bool] = False
    tried_out: ClassVar[bool] = False

    @property
    def second_opinion(self) -> bool:
        """Whether a stock tool is asked as well."""
        return False

    @property
    def operation_bytes(self) -> int:
        """What one operation writes, at most."""
        return 0

    @property
    def prepared_bytes(self) -> int:
        """What is written before the load begins, at most."""
        return 0

    @property
    def seconds_after(self) -> float:
        """How long the target still has something to do when the last operation was answered, at most."""
        return 0.0
