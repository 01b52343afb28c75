"""A copy of the pipeline in sandboxes: restored from a set, seen to work, and destroyed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from include.engine.cli.clock import now
from include.engine.contracts import Stop
from include.engine.errors import PermanentError
from include.engine.model import SetManifest, System, Verdict, waves

if TYPE_CHECKING:
    from include.engine.cli.steps import Steps
    from include.engine.verbs.pipeline import Pipeline

_COPIED = (System.KAFKA, System.CASSANDRA, System.SPARK)


class _Unheard:
    """A progress that nobody reads: the steps say what is done."""

    def stage(self, name: str, total_bytes: int | None = None) -> None: ...

    def advance(self, bytes_: int) -> None: ...

    def say(self, text: str) -> None: ...


def lose(pipeline: Pipeline, sealed: SetManifest, steps: Steps) -> None:
    """Restore Kafka, Cassandra and the checkpoint of *sealed* beside each other, run the job there, and destroy all of it.

    :raises PermanentError: the copy did not work; the hint says what was wrong with it
    """
    from include.engine.verbs.rehearsal import Rehearsals
    from include.engine.verbs.restore_set import positions_of

    with ExitStack() as sandboxes:
        copy = Rehearsals(
            pipeline=pipeline,
            point="latest",
            asked=positions_of(sealed),
            sandboxes=sandboxes,
            progress=_Unheard(),
            stop=Stop(),
            clock=now,
        )
        parts = {part.target: part.backup for part in sealed.parts if part.target.system in _COPIED}
        for wave in waves(parts):
            with steps.step(f"Restoring {' and '.join(map(str, wave))}"):
                copy.bring_back({target: parts[target] for target in wave}, alone=False)
        wrong = [f"{check.name}: {check.detail}" for check in copy.checks if check.verdict is not Verdict.PASS]
        if wrong:
            raise PermanentError(f"a copy of the set {sealed.id} does not work", hint="; ".join(wrong[:5]))
        for check in copy.checks:
            if "marked record" in check.name:
                steps.say(f"{check.name}: {check.detail}")
        with steps.step("Destroying it: driver, node and broker, their data, and the checkpoint"):
            sandboxes.close()
