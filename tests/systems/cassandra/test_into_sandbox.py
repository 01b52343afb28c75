"""What a node that takes a restore needs grows with the SSTables, and is refused before anything starts when it cannot be had."""

from __future__ import annotations

import pytest

from include.engine.errors import Unsupported
from include.engine.systems.cassandra.into_sandbox import heap_for, require_open_files


@pytest.mark.parametrize(("sstables", "heap"), [(0, 512), (2000, 2512), (3584, 4096), (10_000, 4096)])
def test_the_heap_grows_with_the_sstables_up_to_a_limit(sstables: int, heap: int) -> None:
    assert heap_for(sstables) == heap


def test_more_sstables_than_files_may_be_open_are_refused_with_the_limit_that_they_need() -> None:
    require_open_files(9500, allowed=20_000)
    with pytest.raises(Unsupported, match="has 20002 files open") as refused:
        require_open_files(9501, allowed=20_000)
    assert "ulimit -Hn 20002" in refused.value.hint
