"""``python -m include.engine.cli``: what ``./mainstay`` runs."""

from __future__ import annotations

import atexit
import gc

from include.engine.cli.app import app

if __name__ == "__main__":
    # Python's last collection would look at all that was ever loaded, a tenth of a second, to free what the system frees anyway.
    atexit.register(gc.freeze)
    app(prog_name="./mainstay")
