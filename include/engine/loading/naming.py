"""What load tests call what they create, and how it is known again.  Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_PREFIX = "mainstay_load"
# Of the topics and keyspaces of all pipelines' load tests, in the words of Python and of Java.
OF_A_TEST = rf"{_PREFIX}_[a-z0-9_]+_[0-9]{{8}}t[0-9]{{6}}z.*"
_LONGEST_SLUG = 16  # a keyspace's name has at most 48 characters


def prefix_of(pipeline: str) -> str:
    """Give what everything begins with that load tests of *pipeline* create: another pipeline's is never removed."""
    slug = re.sub("[^a-z0-9]+", "_", pipeline.lower()).strip("_")
    if len(slug) > _LONGEST_SLUG or slug != pipeline:
        digest = hashlib.sha256(pipeline.encode()).hexdigest()[:6]
        slug = f"{slug[: _LONGEST_SLUG - 7]}_{digest}"
    return f"{_PREFIX}_{slug}"


def is_of_a_test(name: str) -> bool:
    """Say whether a load test has created what is called so: no backup and no mirror takes it, for it goes at any time."""
    return re.fullmatch(OF_A_TEST, name) is not None


def ours(prefix: str, names: Sequence[str]) -> list[str]:
    """Give those of *names* that load tests of one pipeline have created: ``demo`` begins what is called ``demo_2``, too.

    :param prefix: of that pipeline, see :func:`prefix_of`
    """
    name = re.compile(rf"(?:[a-z]+:)?{re.escape(prefix)}_\d{{8}}t\d{{6}}z(?![a-z0-9])")
    return [one for one in names if name.match(one)]
