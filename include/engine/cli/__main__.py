"""``python -m include.engine.cli``: what ``./mainstay`` runs."""

from __future__ import annotations

from include.engine.cli.app import app

if __name__ == "__main__":
    app(prog_name="./mainstay")
