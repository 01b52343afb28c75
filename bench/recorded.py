"""Keeps what a bench has measured: as JSON with the machine and the date, and as the Markdown that the docs quote."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """Say where and when: a figure without that is none.  The load tells whether others worked here meanwhile."""
    return {
        "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load": round(os.getloadavg()[1], 1),
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Give the lines of a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def keep(name: str, report: Mapping[str, Any], lines: Sequence[str], out: Path = RESULTS) -> None:
    """Write ``<name>.json`` and ``<name>.md``, and print the latter."""
    where = machine()
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({**where, **report}, indent=2) + "\n")
    text = "\n".join([*lines, "", f"{where['machine']}, load {where['load']}, {where['at']}.", ""])
    (out / f"{name}.md").write_text(text)
    print(text)
