"""Does something with several targets side by side, and tells a person in one line how far all of them are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from include.engine.contracts import Progress
from include.engine.model import Target

Result = TypeVar("Result")


class Share:
    """The progress of one target of several (see ``contracts.Progress``): its bytes count for all, its stages are events."""

    def __init__(self, target: Target, progress: Progress) -> None:
        self._target = str(target)
        self._progress = progress

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """Tell that a stage begins."""
        del total_bytes  # what all of them move was told when they began
        self.say(name)

    def advance(self, bytes_: int) -> None:
        """Count bytes."""
        self._progress.advance(bytes_)

    def say(self, text: str) -> None:
        """Tell one event, and whose it is."""
        self._progress.say(text if self._target in text else f"{self._target}: {text}")


def beside_each_other(
    sizes: Mapping[Target, int], work: Callable[[Target, Progress], Result], *, what: str, progress: Progress
) -> dict[Target, Result]:
    """Do *work* for all targets at once, and give what each gave, when the last one has ended.

    Of several errors the first target's comes through, and only then: what others do is never left half done behind it.

    :param sizes: the targets, and how many bytes each is to move
    :param what: is done with them, in a word for a person
    """
    if len(sizes) < 2:
        return {target: work(target, progress) for target in sizes}
    progress.stage(f"{what} {', '.join(map(str, sizes))}", sum(sizes.values()))
    with ThreadPoolExecutor(len(sizes), thread_name_prefix="beside") as pool:
        doing = {target: pool.submit(work, target, Share(target, progress)) for target in sizes}
    return {target: future.result() for target, future in doing.items()}
