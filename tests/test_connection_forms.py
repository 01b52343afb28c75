"""Connections are read from both forms of the environment, and a form that cannot be read never quotes its secret."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.engine.connection_forms import parse
from include.engine.contracts import Connection
from include.engine.errors import Misconfigured

SECRET = "p@ss/w:rd?#%"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


def test_a_uri_is_read_with_its_extras() -> None:
    found = parse(f"postgresql://main%40stay:{quote(SECRET, safe='')}@db.example:5433/shop?sslmode=require&x=", "C")
    assert found == Connection(
        host="db.example",
        port=5433,
        login="main@stay",
        password=SECRET,
        schema="shop",
        extra={"sslmode": "require", "x": ""},
    )


def test_a_uri_may_lack_almost_everything() -> None:
    assert parse("aws://", "C") == Connection()


def test_a_uri_may_carry_airflows_own_form_of_extras() -> None:
    extra = quote(json.dumps({"endpoint_url": "http://s3:1", "retries": 3}))
    assert parse(f"aws://key:secret@/?__extra__={extra}", "C").extra == {"endpoint_url": "http://s3:1", "retries": "3"}


@pytest.mark.parametrize("extra", [{"a": 1}, '{"a": "1"}'], ids=["an object", "a string of JSON"])
def test_json_is_read_whatever_its_extras_are(extra: object) -> None:
    value = json.dumps({"conn_type": "aws", "login": "key", "password": SECRET, "port": "9", "extra": extra})
    assert parse(value, "C") == Connection(login="key", password=SECRET, port=9, extra={"a": "1"})


def test_json_may_hold_nulls() -> None:
    assert parse('{"host": null, "port": null, "extra": null}', "C") == Connection()


@given(login=TEXT, password=TEXT, schema=TEXT)
def test_any_text_survives_the_uri(login: str, password: str, schema: str) -> None:
    encoded = [quote(part, safe="") for part in (login, password, schema)]
    found = parse(f"postgresql://{encoded[0]}:{encoded[1]}@h:1/{encoded[2]}", "C")
    assert (found.login, found.password, found.schema) == (login, password, schema)


@given(login=TEXT, password=TEXT)
def test_any_text_survives_json(login: str, password: str) -> None:
    found = parse(json.dumps({"login": login, "password": password}), "C")
    assert (found.login, found.password) == (login, password)


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f'{{"password": "{SECRET}"',
        f'{{"password": "{SECRET}", "extra": "{{"}}',
        f'{{"password": "{SECRET}", "port": "many"}}',
        f"postgresql://u:{quote(SECRET, safe='')}@h:port/d",
        f"postgresql://u:{quote(SECRET, safe='')}@h:99999999/d",
        f"aws://u:p@/?__extra__=[\"{SECRET}\"]",
    ],
    ids=["neither", "cut", "bad extra", "bad port", "no port", "a port too large", "extras that are a list"],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_not_quoted(value: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse(value, "AIRFLOW_CONN_X")
    assert "AIRFLOW_CONN_X" in refused.value.message
    assert SECRET not in str(refused.value)
    assert quote(SECRET, safe="") not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_password_is_in_no_repr() -> None:
    assert SECRET not in repr(Connection(login="u", password=SECRET, extra={"session_token": SECRET}))
