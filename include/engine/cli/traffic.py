"""``python -m include.engine.cli.traffic``: customers of the demo's shop, who never sleep, and the heartbeat.

Every ``MAINSTAY_TRAFFIC_SECONDS`` (2) it commits a heartbeat row, some orders and what became of older ones; and
:mod:`traffic_events` writes log lines to Kafka.  It outlives restarts of the servers, and ends on SIGTERM.  The connections
are in its environment, where ``ps`` shows nobody the passwords.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta

import psycopg

from include.engine.cli.shop import HEARTBEAT
from include.engine.cli.traffic_events import read, send
from include.engine.connection_forms import parse
from include.engine.errors import Misconfigured
from include.engine.systems.postgres import heartbeat

HEARTBEAT_CONNINFO = "MAINSTAY_TRAFFIC_HEARTBEAT"
SHOP_CONNINFO = "MAINSTAY_TRAFFIC_SHOP"
SECONDS = "MAINSTAY_TRAFFIC_SECONDS"
KAFKA = "MAINSTAY_TRAFFIC_KAFKA"
DEFAULT_SECONDS = 2.0

_ORDERS_AT_ONCE = 5

_BUY = """
insert into orders (customer, cents, note)
select id, (100 + random() * 90000)::bigint, md5(random()::text) from customers order by random() limit %s
"""
_MOVE = """
update orders set status = case status when 'new' then 'paid' when 'paid' then 'sent' else 'delivered' end
where id in (select id from orders where status <> 'delivered' order by id desc limit 20)
"""
# Once per connection, not per round: what a demo that was left running for weeks need not keep.
_BEATS_KEPT = timedelta(days=1)
_FORGET_ORDERS = "delete from orders where placed < now() - interval '60 days'"


def pause(environment: Mapping[str, str]) -> float:
    """Give the seconds between two rounds.

    :raises Misconfigured: when the variable holds no such number
    """
    text = environment.get(SECONDS, "").strip() or str(DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.05 <= seconds <= 3600:
        raise Misconfigured(f"{SECONDS}={text} is not a pause", hint="Set it to seconds, from 0.05 to 3600")
    return seconds


def trade(stop: threading.Event, seconds: float) -> None:
    """Write until *stop* is set; a server that is away is waited for."""
    while not stop.is_set():
        try:
            with (
                psycopg.connect(os.environ[HEARTBEAT_CONNINFO], autocommit=True, connect_timeout=5) as pulse,
                psycopg.connect(os.environ[SHOP_CONNINFO], autocommit=True, connect_timeout=5) as shop,
            ):
                heartbeat.trim(pulse, HEARTBEAT, _BEATS_KEPT)
                shop.execute(_FORGET_ORDERS)
                while not stop.is_set():
                    _round(pulse, shop)
                    stop.wait(seconds)
        except psycopg.Error as error:
            print(f"{type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            stop.wait(min(seconds, 1.0))


def _round(pulse: psycopg.Connection, shop: psycopg.Connection) -> None:
    heartbeat.beat(pulse, HEARTBEAT)
    with shop.transaction():
        shop.execute(_BUY, (_ORDERS_AT_ONCE,))
        shop.execute(_MOVE)


def main() -> None:
    """Trade until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    seconds = pause(os.environ)
    kafka = parse(os.environ[KAFKA], KAFKA)
    flows = [threading.Thread(target=work, args=(stop, seconds, kafka), name=work.__name__) for work in (send, read)]
    for flow in flows:
        flow.start()
    trade(stop, seconds)
    for flow in flows:
        flow.join()


if __name__ == "__main__":
    main()
