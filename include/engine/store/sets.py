"""Sets, for whoever reads them one by one: one damaged manifest must not hide all the others."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from include.engine.errors import PermanentError
from include.engine.model import SetManifest
from include.engine.store.catalog import Catalog


class SetSurvey(Struct, frozen=True, kw_only=True):
    """All sets that can be read, oldest first, and what is wrong with the manifests of the others."""

    sets: tuple[SetManifest, ...]
    unreadable: Mapping[str, PermanentError]  # by set id


def survey_sets(catalog: Catalog) -> SetSurvey:
    """Give the sets that can be read.  Whoever deletes asks :meth:`Catalog.sets`, which does not go on then."""
    found: list[SetManifest] = []
    wrong: dict[str, PermanentError] = {}
    for set_id in sorted(catalog.bucket.folders("sets")):
        try:
            manifest = catalog.find_set(set_id)
        except PermanentError as error:
            wrong[set_id] = error
            continue
        if manifest is not None:
            found.append(manifest)
    return SetSurvey(sets=tuple(found), unreadable=wrong)


def newest_set(catalog: Catalog) -> SetManifest | None:
    """Give the newest committed set, whatever is wrong with older ones; None when there is none.

    :raises Corrupt: when it is the newest that cannot be read: an older one in its place would hide that
    :raises Unsupported: when a newer Mainstay wrote it, likewise
    """
    for set_id in sorted(catalog.bucket.folders("sets"), reverse=True):
        manifest = catalog.find_set(set_id)
        if manifest is not None:
            return manifest
    return None
