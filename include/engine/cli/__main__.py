"""``python -m include.engine.cli``: what ``./mainstay`` runs."""

from __future__ import annotations

import gc
import os
import sys
import threading

from include.engine.cli.app import build


def main() -> None:
    """Run the command, and leave as soon as it has said all."""
    try:
        build(only=sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="./mainstay")
    except SystemExit as end:
        # Python would look at all that was ever loaded, a tenth of a second, to free what the system frees anyway.
        gc.freeze()
        if isinstance(end.code, int | None) and all(one.daemon for one in threading.enumerate()[1:]):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        raise


if __name__ == "__main__":
    main()
