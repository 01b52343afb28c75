"""What a load profile may say about PostgreSQL: which transactions pgbench makes.  Imports no client library."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from include.engine.loading.workload import LoadWorkload

_ROW_BYTES = 1024  # of a TPC-B transaction with its WAL, about
_SCALE_BYTES = 32 << 20  # of the accounts of one scale, and as much WAL


class Workload(LoadWorkload):
    """Transactions by pgbench, in a database of the test's own."""

    drawn: ClassVar[bool] = True  # pgbench keeps a rate as a Poisson process

    script: Literal["tpcb-like", "simple-update", "select-only"] | None = Field(
        "tpcb-like", description="one of pgbench's own; null when `mix` is given"
    )
    mix: dict[Literal["tpcb-like", "simple-update", "select-only"], int] = Field(
        default_factory=dict, description="several of them, with their weights"
    )
    scale: int = Field(1, ge=1, le=10_000, description="100,000 accounts each, about 16 MB")
    clients: int = Field(8, ge=1, le=1000, description="connections; no more transactions are in flight")
    protocol: Literal["simple", "extended", "prepared"] = Field("prepared", description="how queries are sent")

    @model_validator(mode="after")
    def _one_of_both(self) -> Workload:
        if bool(self.mix) == (self.script is not None):
            msg = "give `script`, or `mix` and `script: null`"
            raise ValueError(msg)
        return self

    @property
    def scripts(self) -> dict[str, int]:
        """Every script with its weight."""
        return {str(name): weight for name, weight in self.mix.items()} if self.mix else {str(self.script): 1}

    @property
    def operation_bytes(self) -> int:
        """What one operation writes, at most."""
        return 0 if set(self.scripts) == {"select-only"} else _ROW_BYTES

    @property
    def prepared_bytes(self) -> int:
        """The accounts."""
        return self.scale * _SCALE_BYTES
