"""A plan as a page, for the person who approves it."""

from __future__ import annotations

from include.engine.cli import figures
from include.engine.model import RestorePlan, SetPlan


def place_of(plan: RestorePlan) -> str:
    """Name where a restore goes."""
    place = plan.destination.path or plan.destination.name
    return f"{plan.destination.kind} {place}".strip()


def page_of(plan: RestorePlan, reason: str) -> str:
    """Write the plan of one target as Markdown."""
    overwritten = ", ".join(f"**{_plain(one)}**" for one in plan.would_overwrite) or "nothing"
    facts = [
        ("Target", f"`{plan.target}`"),
        ("From", " → ".join(f"`{one}`" for one in plan.chain)),
        ("To the point", f"`{plan.point}`"),
        ("Into", f"`{_plain(place_of(plan))}`"),
        ("Would overwrite", overwritten),
        ("To fetch", figures.size(plan.bytes_to_fetch)),
        ("Space needed", figures.size(plan.bytes_needed)),
        ("Expected to take", _expected(plan.seconds_expected)),
        ("Reason", _plain(reason)),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| **{name}** | {value} |" for name, value in facts)])
    steps = "\n".join(f"{number}. {_plain(step)}" for number, step in enumerate(plan.steps, start=1))
    return f"{table}\n{_warnings(plan.warnings)}\n**Steps**\n\n{steps}\n"


def page_of_set(plan: SetPlan, reason: str) -> str:
    """Write the plan of a set as Markdown: what, how large, how long and what would be overwritten, part by part."""
    head = ("Part", "From", "Into", "Would overwrite", "To fetch", "Space needed", "Expected to take")
    rows = [
        (
            f"`{part.target}`",
            " → ".join(f"`{one}`" for one in part.chain),
            f"`{_plain(place_of(part))}`",
            ", ".join(f"**{_plain(one)}**" for one in part.would_overwrite) or "nothing",
            figures.size(part.bytes_to_fetch),
            figures.size(part.bytes_needed),
            _expected(part.seconds_expected),
        )
        for part in plan.parts
    ]
    total = ("**All**", "", "", "", figures.size(plan.bytes_to_fetch), figures.size(plan.bytes_needed))
    lines = [head, ("---",) * len(head), *rows, (*total, _expected(plan.seconds_expected))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = "\n".join(
        f"**{part.target}**\n\n"
        + "\n".join(f"{number}. {_plain(step)}" for number, step in enumerate(part.steps, start=1))
        + f"\n{_warnings(part.warnings)}"
        for part in plan.parts
    )
    return (
        f"The set `{plan.set_id}`. Reason: {_plain(reason)}\n\n{table}\n{_warnings(plan.warnings)}\n"
        f"**Steps, in this order**\n\n{parts}"
    )


def _expected(seconds: float | None) -> str:
    return figures.duration(seconds) if seconds else "not known: no drill has measured it yet"


def _warnings(warnings: tuple[str, ...]) -> str:
    return "".join(f"\n> **Warning:** {_plain(one)}\n" for one in warnings)


def _plain(text: str) -> str:
    """Keep what people typed from breaking the table or becoming markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\|<>[]*_`#" else letter for letter in flat)
