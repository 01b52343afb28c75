"""The policy that a person copies from the page is the one that the sandbox proves."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import canonicalize

from include.engine.systems.cassandra.node_configuration import jolokia_policy

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cassandra.md"


def test_the_policy_on_the_page_is_the_one_that_is_tested() -> None:
    (shown,) = re.findall(r"^```xml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert canonicalize(shown, strip_text=True) == canonicalize(jolokia_policy(), strip_text=True)
