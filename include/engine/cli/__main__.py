"""``python -m include.engine.cli``: what ``./mainstay`` runs."""

from __future__ import annotations

import gc
import os
import sys
import threading

# What is loaded stays: looking through it for garbage again and again is a fifteenth of the time that loading takes.
gc.set_threshold(100_000, 10, 10)
# Ours are none; looking for those of others is to read what each of some hundred installed packages says of itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from include.engine.cli.app import build  # noqa: E402

_IDLE = "ThreadPoolExecutor-"  # a pool that nobody named is a library's


def main() -> None:
    """Run the command, and leave as soon as it has said all."""
    try:
        build(only=sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="./mainstay")
    except SystemExit as end:
        # Python would end the idle threads of drivers and look at all that was ever loaded, a tenth of a second, to free what
        # the system frees anyway.  A thread of ours that still works is waited for.
        gc.freeze()
        ours = [one for one in threading.enumerate()[1:] if not (one.daemon or one.name.startswith(_IDLE))]
        if isinstance(end.code, int | None) and not ours:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        raise


if __name__ == "__main__":
    main()
