"""What every verb works on: the targets, the catalog, and where each target's implementations come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from include.engine.contracts import Lookup
from include.engine.errors import NotFound
from include.engine.inventory import Objectives
from include.engine.model import FREEZE_ORDER, Target
from include.engine.store.catalog import Catalog
from include.engine.store.retention import Policy


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What was agreed for one target."""

    objectives: Objectives = field(default_factory=Objectives)
    recipients: tuple[str, ...] = ()  # age public keys; empty stores in the clear
    identities: tuple[str, ...] = field(default=(), repr=False)  # age secret keys, for reading
    timeout: timedelta = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One pipeline: what it consists of and what is in its bucket.  Built by ``wiring``."""

    name: str
    terms: Mapping[Target, Terms]
    catalog: Catalog
    lookup: Lookup
    policy: Policy
    objectives: Objectives
    lock: timedelta | None = None
    signer: str = field(default="", repr=False)  # the key that signs evidence of drills; empty when they are not signed

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets, in the order in which a set freezes them."""
        return tuple(sorted(self.terms, key=lambda target: (FREEZE_ORDER.index(target.system), target.name)))

    def choose(self, wanted: Sequence[str]) -> tuple[Target, ...]:
        """Give the targets that *wanted* names (all when it is empty), in freeze order.

        :raises NotFound: naming every one that the pipeline does not have
        """
        chosen = {Target.parse(text) for text in wanted} or set(self.targets)
        unknown = sorted(map(str, chosen - set(self.targets)))
        if unknown:
            raise NotFound(
                f"the pipeline {self.name} has no target {', '.join(unknown)}",
                hint=f"it has: {', '.join(map(str, self.targets))}",
            )
        return tuple(target for target in self.targets if target in chosen)
