"""Ingest on a real Kafka: users come from the API when it answers as it should, else from the seed; the same are the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from include.engine.systems.spark.ingest import Ingested, ingest, topics_of
from include.engine.systems.spark.people import user
from include.engine.systems.spark.reconcile import consuming, ends, read
from tests.estate import clock
from tests.integration.spark.brook import Brook
from tests.systems.http.serving import serving

pytestmark = pytest.mark.integration


def result(number: int) -> Mapping[str, Any]:
    """One result, as the Random User API 1.4 gives it."""
    return {
        "gender": "female",
        "name": {"title": "Ms", "first": "Zoë", "last": f"Number{number}"},
        "location": {
            "street": {"number": 7, "name": "Mill Road"},
            "city": "Leeds",
            "state": "West Yorkshire",
            "country": "United Kingdom",
            "postcode": 8211,
        },
        "email": f"z{number}@example.com",
        "login": {"uuid": str(uuid.UUID(int=number, version=4)), "username": f"zoe{number}"},
        "registered": {"date": "2015-03-01T10:00:00.000Z", "age": 11},
        "phone": "0113 496 0000",
        "picture": {"medium": "https://example.com/z.jpg"},
    }


def sent(brook: Brook, topic: str) -> list[dict[str, Any]]:
    with consuming(brook.kafka.connection()) as consumer:
        spans = {partition: (0, end) for partition, end in ends(consumer, topic).items()}
        return [json.loads(record.value or b"") for record in read(consumer, topic, spans)]


def test_users_come_from_the_api_and_from_the_seed_when_it_does_not_answer(brook: Brook) -> None:
    topics = topics_of(brook.settings())

    def ask(api: str, users: int) -> Ingested:
        connection = brook.kafka.connection()
        return ingest(connection, topics, users=users, events=2, seed=5, api=api, clock=clock)

    with serving() as server:
        url = f"http://127.0.0.1:{server.port}/api/"
        server.body = json.dumps({"results": [result(n) for n in range(3)]}).encode()
        assert ask(url, 3) == Ingested(users=3, events=2, source=url)
        assert [path for path, _, _ in server.seen] == ["/api/?results=3"]
        found = sent(brook, brook.users)
        assert {one["id"] for one in found} == {str(uuid.UUID(int=n, version=4)) for n in range(3)}
        assert {(one["first_name"], one["post_code"]) for one in found} == {("Zoë", "8211")}

        server.body = b'{"error": "too many requests"}'
        assert ask(url, 4).source == "seed 5"
    assert ask(url, 4) == Ingested(users=4, events=2, source="seed 5")  # nobody listens there any more
    people = [one for one in sent(brook, brook.users) if one["first_name"] != "Zoë"]
    made = [user(5, n)["id"] for n in range(4)]
    assert sorted(one["id"] for one in people) == sorted(made * 2)
    assert len(sent(brook, brook.events)) == 6
