"""What checks found.  UNVERIFIED is never green."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Verdict(StrEnum):
    """What a check, a drill or a sweep found.  UNVERIFIED is never green."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    UNVERIFIED = "UNVERIFIED"

    @property
    def exit_code(self) -> int:
        """The shell's view: 0 pass, 1 fail, 3 unverified."""
        return {"PASS": 0, "FAIL": 1, "UNVERIFIED": 3}[self.value]


def worst(verdicts: list[Verdict]) -> Verdict:
    """Join verdicts: one failure fails all, one gap leaves all unverified, and nothing checked is nothing proved."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    if not verdicts or Verdict.UNVERIFIED in verdicts:
        return Verdict.UNVERIFIED
    return Verdict.PASS


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what was seen."""

    name: str
    verdict: Verdict
    detail: str
    seconds: float = 0.0
