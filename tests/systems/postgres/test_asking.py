"""What is asked of a server, and what is made of its refusals."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.engine.contracts import Connection
from include.engine.errors import (
    Contended,
    Corrupt,
    Incomplete,
    MainstayError,
    Misconfigured,
    NotFound,
    PermanentError,
    Unauthorized,
    Unreachable,
    Unsupported,
)
from include.engine.systems.postgres.basebackup import Request
from include.engine.systems.postgres.client import conninfo, diagnosed
from include.engine.systems.postgres.diagnosis import diagnose
from include.engine.systems.postgres.digests import block_ranges
from include.engine.systems.postgres.settings import Checkpoint, Compression, PostgresSettings
from include.engine.systems.postgres.transfer import Offer, lesser
from tests.systems.postgres.test_chain import backup, settings

NO_ZSTD = Unsupported(
    "invalid compression specification: this build does not support compression with zstd", hint="another build"
)
NO_SUMMARIES = PermanentError("WAL summaries are required from 0/2 to 0/3, but no summaries exist", hint="")


def test_a_plain_backup_is_asked_for_with_its_wal_and_manifest() -> None:
    assert Request(label="mainstay x").command == (
        "BASE_BACKUP (LABEL 'mainstay x', CHECKPOINT 'fast', WAL true, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', "
        "TABLESPACE_MAP true, PROGRESS true)"
    )


def test_every_wish_is_an_option() -> None:
    request = Request(
        label="it's",
        compression=Compression.ZSTD,
        level=3,
        workers=2,
        checkpoint=Checkpoint.SPREAD,
        max_rate=1 << 20,
        incremental=True,
    )
    assert "LABEL 'it''s'" in request.command
    assert "CHECKPOINT 'spread'" in request.command
    assert (
        "COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=3,workers=2', MAX_RATE 1024, INCREMENTAL true)"
        in request.command
    )


def test_only_zstd_has_workers() -> None:
    assert "workers" not in Request(label="x", compression=Compression.LZ4, workers=2).command


def test_a_server_without_the_codec_leaves_compression_to_us() -> None:
    wanted = settings(compression="lz4")
    offer, reason = lesser(Offer.first(wanted, None), NO_ZSTD, wanted)
    assert (offer.compression, offer.on_server) == (Compression.ZSTD, False)
    assert "this side compresses" in reason


def test_a_server_that_must_compress_and_cannot_is_an_error() -> None:
    wanted = settings(compress_on="server")
    with pytest.raises(Unsupported):
        lesser(Offer.first(wanted, None), NO_ZSTD, wanted)


def test_an_incremental_that_is_refused_becomes_a_full_one_with_the_reason() -> None:
    offer, reason = lesser(Offer.first(settings(), backup(0)), NO_SUMMARIES, settings())
    assert offer.parent is None
    assert offer.on_server
    assert "no summaries exist" in reason


def test_a_refused_full_backup_is_an_error() -> None:
    with pytest.raises(PermanentError, match="no summaries"):
        lesser(Offer.first(settings(), None), NO_SUMMARIES, settings())


REFUSALS: dict[str, tuple[str, str | None, type[MainstayError], str]] = {
    "password": ('FATAL: password authentication failed for user "x"', None, Unauthorized, "login and password"),
    "replication": ("permission denied to start WAL sender", "42501", Unauthorized, 'ALTER ROLE "bk" REPLICATION'),
    "replication in 15": (
        "must be superuser or replication role to start walsender",
        "42501",
        Unauthorized,
        "REPLICATION",
    ),
    "pg_hba": ("no pg_hba.conf entry for replication connection from host", None, Unauthorized, "host replication bk"),
    "senders": (
        'number of requested standby connections exceeds "max_wal_senders" (currently 1)',
        "53300",
        Contended,
        "max_wal_senders",
    ),
    "slots": ("all replication slots are in use", "53400", Contended, "max_replication_slots"),
    "connections": ("sorry, too many clients already", "53300", Contended, "max_connections"),
    "WAL": (
        "requested WAL segment 000000010000000000000002 has already been removed",
        "58P01",
        Incomplete,
        "max_slot_wal_keep_size",
    ),
    "database": ('database "nix" does not exist', None, NotFound, "database's name"),
    "wal_level": ("WAL level not sufficient for making an online backup", "55000", Misconfigured, "wal_level"),
    "shutdown": ("terminating connection due to administrator command", "57P01", Unreachable, "repeated"),
    "damaged page": ("checksum verification failure during base backup", "XX001", Corrupt, "pg_amcheck"),
    "right": ("permission denied for function pg_create_restore_point", "42501", Unauthorized, 'grant the role "bk"'),
    "gone": ("server closed the connection unexpectedly", None, Unreachable, "server runs"),
    "unknown": ("something new", "XX000", PermanentError, "log"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_whether_to_retry_and_what_to_do(case: tuple[str, str | None, type[MainstayError], str]) -> None:
    text, state, kind, hint = case
    error = diagnose(text, state=state, where="PostgreSQL at db:5432", role="bk")
    assert type(error) is kind
    assert hint in error.hint
    assert error.message.startswith("PostgreSQL at db:5432: ")


SECRET = Connection(host="db", port=5432, login="bk", password="s3 'cr\\et", schema="orders", extra={"cursor": "x"})


def test_the_connection_string_quotes_what_it_must_and_drops_what_is_airflows() -> None:
    text = conninfo(SECRET, database=None, application="mainstay 1", replication=True)
    assert "dbname=orders" in text
    assert "replication=true" in text
    assert r"password='s3 \'cr\\et'" in text
    assert "cursor" not in text


def test_extras_reach_libpq_and_ours_come_before_the_users_options() -> None:
    connection = Connection(host="db", extra={"sslmode": "verify-full", "options": "-c work_mem=1MB"})
    text = conninfo(connection, database="a b", application="x")
    assert "sslmode=verify-full" in text
    assert "dbname='a b'" in text
    assert "idle_in_transaction_session_timeout=0 -c work_mem=1MB" in text


def test_an_error_never_carries_the_password() -> None:
    assert SECRET.password not in str(diagnosed(SECRET, f"invalid value {SECRET.password} somewhere"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"compression": "xz"},
        {"compression": "gzip", "compression_level": 10},
        {"compression": "lz4", "compress_on": "client"},
        {"slot": "Has-Dashes"},
        {"heartbeat": "nodot"},
        {"full_every": "0s"},
        {"max_rate": 1000},
        {"unknown": 1},
        {"samples": {"ranges": 0}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_every_setting_is_described() -> None:
    fields = PostgresSettings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@given(blocks=st.integers(0, 1 << 32), count=st.integers(1, 50), length=st.integers(1, 500))
def test_block_ranges_lie_inside_the_table_apart_from_each_other(blocks: int, count: int, length: int) -> None:
    ranges = block_ranges(blocks, count, length)
    if count * length >= blocks:
        assert ranges == ()
        return
    assert len(ranges) == count
    assert all(end - first == length for first, end in ranges)
    assert ranges[0][0] == 0
    assert count == 1 or ranges[-1][1] == blocks
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
