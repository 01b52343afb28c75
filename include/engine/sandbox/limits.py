"""How many files a server of a sandbox may have open."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

_WANTED = 100_000  # what the packages of Cassandra and Kafka ask for
_KIND = resource.RLIMIT_NOFILE


def open_files() -> int:
    """Raise the limit as far as this account may, for all that is started from now on, and give it.

    Only the hard one is raised: a JVM goes up to it by itself, and who counts on few stays as it was.
    """
    soft, hard = resource.getrlimit(_KIND)
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    if hard < _WANTED:
        with suppress(ValueError, OSError):  # only who has CAP_SYS_RESOURCE may
            resource.setrlimit(_KIND, (soft, _WANTED))
            hard = _WANTED
    return hard
