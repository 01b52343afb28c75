"""A pipeline of one target, around whoever finds its implementations: what tests of a system take backups and restores with."""

from __future__ import annotations

from include.engine.contracts import Lookup
from include.engine.model import Target
from include.engine.store.catalog import Catalog
from include.engine.store.retention import Policy
from include.engine.verbs.pipeline import Pipeline, Terms


def alone(target: Target, lookup: Lookup, catalog: Catalog) -> Pipeline:
    """Give it, with the terms that nobody has agreed on otherwise."""
    terms = Terms()
    return Pipeline(
        name="test",
        terms={target: terms},
        catalog=catalog,
        lookup=lookup,
        policy=Policy(),
        objectives=terms.objectives,
    )
