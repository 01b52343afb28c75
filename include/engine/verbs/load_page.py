"""The page of a load test: with the tests before it, as far as they can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from include.engine.errors import MainstayError
from include.engine.loading import report
from include.engine.loading.comparison import compare
from include.engine.model import LoadResult
from include.engine.store.loads import Loads


def with_page(loads: Loads, result: LoadResult, baseline: str | None) -> tuple[LoadResult, str]:
    """Give a result with its page, or with a note that says why it has a lesser one: what was measured is never lost to it."""
    pages: Sequence[Callable[[LoadResult], str]] = (
        lambda whole: _page(loads, whole, baseline),
        report.page,
        report.bare,
    )
    for page in pages:
        try:
            return result, page(result)
        except Exception as error:  # noqa: BLE001 - a plot or an old result that is damaged, whatever it raises
            told = error.message if isinstance(error, MainstayError) else f"{type(error).__name__}: {error}"
            notes = (*result.notes, f"the page has less than it should: {told}")
            result = msgspec.structs.replace(result, notes=notes)
    return result, ""


def _page(loads: Loads, result: LoadResult, baseline: str | None) -> str:
    earlier = loads.newest(profile=result.profile, target=result.target, before=result.id)
    compared = []
    if baseline and baseline != result.id:
        # What came after the baseline may be the change that is looked for: only what was before it shows noise.
        noise = loads.newest(profile=result.profile, target=result.target, before=baseline)
        compared.append(compare(loads.get(baseline), result, earlier=noise))
    elif earlier:
        compared.append(compare(earlier[0], result, earlier=earlier[1:]))
    return report.page(result, earlier=earlier, comparisons=compared)
