"""How a consumer group is doing, without thresholds: Burrow's rules over a window of what was seen.  Pure.

https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from msgspec import Struct


class GroupState(StrEnum):
    """What a partition's reader is doing."""

    OK = "OK"
    WARNING = "WARNING"  # it commits, and falls behind all the time
    STALLED = "STALLED"  # it commits the same position again and again, with records waiting
    STOPPED = "STOPPED"  # it has not committed for longer than the window, with records waiting
    REWOUND = "REWOUND"  # its position went back
    LOSS = "LOSS"  # its position is before the first record that is left
    UNKNOWN = "UNKNOWN"  # too little was seen to judge


# As a number, for readings: what is above 0 deserves a look, and more the higher it is.
SEVERITY = {
    GroupState.OK: 0,
    GroupState.WARNING: 1,
    GroupState.REWOUND: 2,
    GroupState.STALLED: 3,
    GroupState.STOPPED: 4,
    GroupState.LOSS: 5,
}


class Sample(Struct, frozen=True, kw_only=True):
    """One look at one group and partition."""

    at: float  # seconds
    committed: int
    end: int
    low: int = 0

    @property
    def lag(self) -> int:
        """Records, or markers, behind."""
        return max(0, self.end - self.committed)


_FEWEST = 3


def judge(samples: Sequence[Sample]) -> GroupState:
    """Judge what was seen, oldest first.

    Kafka does not tell when a group committed, so "stopped" is a position that never moved while the end did.
    """
    if not samples:
        return GroupState.UNKNOWN
    last = samples[-1]
    if last.committed < last.low:
        return GroupState.LOSS
    if any(sample.lag == 0 for sample in samples):  # once at the end, it cannot be stuck
        rewound = any(b.committed < a.committed for a, b in pairwise(samples)) and last.lag > 0
        return GroupState.REWOUND if rewound else GroupState.OK
    if len(samples) < _FEWEST:
        return GroupState.UNKNOWN
    if any(b.committed < a.committed for a, b in pairwise(samples)):
        return GroupState.REWOUND
    if samples[0].committed == last.committed:
        return GroupState.STOPPED if last.end > samples[0].end else GroupState.STALLED
    if all(b.lag >= a.lag for a, b in pairwise(samples)) and last.lag > samples[0].lag:
        return GroupState.WARNING
    return GroupState.OK
