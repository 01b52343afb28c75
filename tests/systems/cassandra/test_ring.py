"""Who belongs to a ring: whoever joins while a snapshot is taken is noticed, and whoever has long gone is not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from include.engine.errors import Contended
from include.engine.systems.cassandra.ring import require_no_newcomer

BEFORE = {"a": frozenset({"b"}), "b": frozenset({"a", "gone"})}


@pytest.mark.parametrize(
    "after",
    [BEFORE, {"a": frozenset({"b"}), "b": frozenset({"a"})}, {"a": frozenset(), "b": frozenset({"a", "gone"})}],
    ids=["as it was", "what was left of an old node is cleared", "a node forgets another"],
)
def test_a_ring_that_nobody_joined_is_as_it_was(after: Mapping[str, frozenset[str]]) -> None:
    require_no_newcomer(BEFORE, after)


def test_a_node_that_any_other_knows_of_by_now_has_joined() -> None:
    with pytest.raises(Contended, match="new joined the ring while the snapshot was taken"):
        require_no_newcomer(BEFORE, {"a": frozenset({"b"}), "b": frozenset({"a", "gone", "new"})})
