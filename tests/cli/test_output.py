"""What people are shown is what was said."""

from __future__ import annotations

import pytest

from include.engine.cli.output import show, table


def test_a_name_between_colons_stays_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(("topic",), [("eu:warning:1",)], title="of :key:"), "and :bell:")
    assert capsys.readouterr().out.split() == ["of", ":key:", "topic", "─" * 12, "eu:warning:1", "and", ":bell:"]
