"""The script that a recovering server runs for each file of the log that it wants (see ``spool``).  Pure."""

from __future__ import annotations

import shlex
from pathlib import Path

PAUSE = 0.02  # seconds between two looks of the script

# $1 is %f, $2 is %p.  A kill of the restoring process must not leave recovery waiting for ever: it beats in `alive`.
_SCRIPT = """#!/bin/sh
# Asks the Mainstay process that runs this restore for one WAL file.  Exit 1: there is none.  200: stop, it is damaged.
spool={spool}
: > "$spool/want/$1" || exit 200
waited=0
while :; do
    if [ -e "$spool/done/$1" ]; then
        mv -f "$spool/want/$1" "$spool/took/$1" 2>/dev/null
        mv -f "$spool/done/$1" "$2" && exit 0
        exit 200
    fi
    if [ -e "$spool/absent/$1" ]; then rm -f "$spool/absent/$1"; exit 1; fi
    if [ -e "$spool/failed" ]; then exit 200; fi
    waited=$((waited + 1))
    if [ $((waited % 100)) -eq 0 ] && [ -z "$(find "$spool/alive" -mmin -2 2>/dev/null)" ]; then exit 200; fi
    if [ "$waited" -ge {polls} ]; then exit 200; fi
    sleep {pause} 2>/dev/null || sleep 1
done
"""


def fetch_script(spool: Path, *, polls: int) -> str:
    """Give the script.

    :param polls: how often it looks before it gives up
    """
    return _SCRIPT.format(spool=shlex.quote(str(spool)), polls=polls, pause=PAUSE)
