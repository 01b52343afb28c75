"""What a node that takes a restore needs grows with the SSTables, and is refused before anything starts when it cannot be had."""

from __future__ import annotations

import pytest

from include.engine.errors import Unsupported
from include.engine.systems.cassandra.into_sandbox import heap_for, require_open_files


@pytest.mark.parametrize(
    ("sstables", "memory", "heap"),
    [(0, 8192, 512), (2000, 2048, 2512), (9000, 2048, 4096), (9000, 24_576, 9512), (90_000, 24_576, 12_288)],
)
def test_the_heap_grows_with_the_sstables_up_to_half_of_what_the_machine_has(
    sstables: int, memory: int, heap: int
) -> None:
    assert heap_for(sstables, memory=memory) == heap


def test_more_sstables_than_files_may_be_open_are_refused_with_the_limit_that_they_need() -> None:
    require_open_files(9500, allowed=20_000)
    with pytest.raises(Unsupported, match="has 20002 files open") as refused:
        require_open_files(9501, allowed=20_000)
    assert "ulimit -Hn 20002" in refused.value.hint
