"""What runs the job, seen alike: launch it under a name, find it by that name, end it."""

from __future__ import annotations

from typing import Protocol

from include.engine.streaming import Life
from include.engine.systems.spark.submission import Submission


class Engine(Protocol):
    """One kind of place where the job runs."""

    def launch(self, submission: Submission) -> str:
        """Start it, detached from us, and give a handle that :meth:`life` and :meth:`end` take.

        :raises Unreachable: the engine does not answer
        :raises PermanentError: it refuses
        """
        ...

    def life(self, name: str, handle: str | None) -> Life:
        """Say whether the application runs.

        :param handle: None when whoever launched it died before it was written down: it is looked for by its name
        :raises Unreachable: the engine does not answer: nothing is known, and least of all that it is absent
        """
        ...

    def end(self, name: str, handle: str | None, *, kill: bool = False) -> None:
        """End it, and return when it is gone.  Nothing happens when it is not there.

        :param kill: at once, as a crash would
        :raises Unreachable: it could not be made sure that it is gone: nobody may launch another one
        """
        ...

    def logs(self, name: str, handle: str | None) -> str:
        """Give the last lines of what the driver said, or where they are."""
        ...
