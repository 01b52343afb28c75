"""What the records of each flow look like, what is wrong with a broken one, and the row that a good one becomes.

A row's key comes from the record alone, never from the clock or from chance: a record that is read again, tomorrow or after a
restore, writes the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - everybody's name for it
from pyspark.sql import types as t

SOURCE = ("topic", "partition", "offset", "timestamp", "key", "value")

_HEX = "[0-9a-fA-F]"
# \z, because $ would be true before a line break at the end as well.
_UUID = rf"^{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}\z"
_TIMEUUID = rf"^{_HEX}{{8}}-{_HEX}{{4}}-1{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}\z"
# A whole date and, when there is one, a whole time: Spark would take "2026-1-2", and for "10:00" the date of today, which is
# another one in every replay.
_TIME = r"^\d{4}-\d{2}-\d{2}([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-](0\d|1[0-7]):[0-5]\d)?)?\z"
_CORRUPT = "_corrupt"


@dataclass(frozen=True)
class Shape:
    """How the records of a flow are read.

    :param fields: of the JSON document that a record's value is; others are dropped, so a new one stops nothing
    :param wrong: reason to condition, the first that holds is told; over the columns of :data:`SOURCE` and ``d``, the document
    :param columns: of the table, from the same
    """

    fields: t.StructType
    wrong: Mapping[str, Callable[[], Column]]
    columns: Mapping[str, Callable[[], Column]]


def _text(*names: str) -> list[t.StructField]:
    return [t.StructField(name, t.StringType()) for name in names]


def _field(name: str) -> Callable[[], Column]:
    return lambda: F.col(f"d.{name}")


def _lacks(name: str) -> Callable[[], Column]:
    return lambda: F.col(f"d.{name}").isNull()


def _unlike(name: str, pattern: str) -> Callable[[], Column]:
    return lambda: ~F.col(f"d.{name}").rlike(pattern)


def _created() -> Column:
    return F.try_to_timestamp(F.col("d.created_at"))


_PERSON = ("first_name", "last_name", "gender", "address", "post_code", "email", "username", "registered_date")
_PICTURED = ("phone", "picture")

USERS = Shape(
    fields=t.StructType(_text("id", *_PERSON, *_PICTURED)),
    wrong={"no_id": _lacks("id"), "bad_id": _unlike("id", _UUID)},
    columns={"id": _field("id")} | {name: _field(name) for name in (*_PERSON, *_PICTURED)},
)

EVENTS = Shape(
    fields=t.StructType(
        [
            *_text("event_id", "user_id", "event_type", "created_at"),
            t.StructField("properties", t.MapType(t.StringType(), t.StringType())),
            t.StructField(
                "device",
                t.StructType([t.StructField("kind", t.StringType()), t.StructField("version", t.IntegerType())]),
            ),
        ]
    ),
    wrong={
        "no_id": lambda: F.col("d.event_id").isNull() | F.col("d.user_id").isNull(),
        "bad_id": lambda: ~F.col("d.event_id").rlike(_TIMEUUID) | ~F.col("d.user_id").rlike(_UUID),
        "no_time": lambda: F.col("d.created_at").isNull() | _unlike("created_at", _TIME)() | _created().isNull(),
    },
    columns={
        "event_date": lambda: F.date_format(_created(), "yyyy-MM-dd"),
        "event_id": _field("event_id"),
        "user_id": _field("user_id"),
        "event_type": _field("event_type"),
        "properties": _field("properties"),
        "device": _field("device"),
        "created_at": _created,
    },
)

SHAPES: Mapping[str, Shape] = {"users": USERS, "events": EVENTS}


def rows(raw: DataFrame, shape: Shape, replaced: Mapping[str, str] | None = None) -> DataFrame:
    """Give ``reason``, the columns of :data:`SOURCE` and the table's columns, for every record of Kafka in *raw*.

    :param replaced: SQL expressions that stand in for columns; how a test makes a sink that is not repeatable
    """
    # _corrupt has to be among the fields, or a broken document is an empty one.
    fields = t.StructType([*shape.fields.fields, t.StructField(_CORRUPT, t.StringType())])
    options = {
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": _CORRUPT,
        # JSON as everybody else reads it.
        "allowSingleQuotes": "false",
        "allowNonNumericNumbers": "false",
    }
    read = raw.select(*SOURCE, F.from_json(F.col("value").cast("string"), fields, options).alias("d"))
    found: Mapping[str, Callable[[], Column]] = {
        "no_value": lambda: F.col("value").isNull(),
        "bad_json": lambda: F.col("d").isNull() | F.col(f"d.{_CORRUPT}").isNotNull(),
        **shape.wrong,
    }
    reason: Any = reduce(
        lambda chain, one: chain.when(one[1](), one[0]), found.items(), F.when(F.lit(False), F.lit(""))
    )
    columns = {name: make() for name, make in shape.columns.items()}
    columns |= {name: F.expr(text) for name, text in (replaced or {}).items()}
    return read.select(reason.alias("reason"), *SOURCE, *(column.alias(name) for name, column in columns.items()))
