"""A cluster that cannot even be looked for is an error of ours, with a next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, Unreachable
from include.engine.systems.cassandra.client import Cql


def test_a_name_that_does_not_resolve_is_told() -> None:
    with pytest.raises(Unreachable, match=r"Cassandra at no-such-host\.invalid did not answer"):
        Cql(Connection(host="no-such-host.invalid"))


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"certificates for Cassandra at .* cannot be read"):
        Cql(Connection(host="127.0.0.1", extra={"tls_ca_file": str(tmp_path / "gone.pem")}))
