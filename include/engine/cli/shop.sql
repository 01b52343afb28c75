-- The demo's shop: about 40 MB, enough for a rate and a ratio that mean something.  Run once, in one transaction.
-- Names are those of people and of a careless colleague: accents, three scripts, quotes, spaces.

create table customers (
    id bigint generated always as identity primary key,
    name text not null,
    city text not null,
    joined timestamptz not null
);
create table orders (
    id bigint generated always as identity primary key,
    customer bigint not null references customers,
    placed timestamptz not null default clock_timestamp(),
    status text not null default 'new',
    cents bigint not null,
    note text not null default ''
);
create table "Rückläufer & ""Reklamationen""" (
    id bigint generated always as identity primary key,
    "Auftrag №" bigint not null references orders on delete cascade,
    "почему" text not null
);

select setseed(0.42);

insert into customers (name, city, joined)
select given[1 + n % 11] || ' ' || family[1 + n % 9], cities[1 + n % 8], now() - n * interval '1 hour'
from generate_series(1, 5000) n, (select
    array['Zoë', 'Jürgen', 'Søren', 'Łucja', 'Ángel', 'Nguyễn', 'Алексей', '太郎', 'محمد', 'Siobhán', 'Renée "Rae"'] given,
    array['Müller', 'Ørsted', 'Żak', 'Núñez', 'Trần', 'Иванова', '山田', 'حداد', 'O''Brien'] family,
    array['Zürich', 'København', 'Kraków', 'Málaga', 'Huế', 'Санкт-Петербург', '東京', 'القاهرة'] cities) names;

insert into orders (customer, placed, status, cents, note)
select 1 + (random() * 4999)::bigint,
       now() - (150000 - n) * interval '20 seconds',
       (array['new', 'paid', 'sent', 'delivered'])[1 + n % 4],
       (100 + random() * 90000)::bigint,
       md5(n::text) || md5(random()::text)
from generate_series(1, 150000) n;

insert into "Rückläufer & ""Reklamationen""" ("Auftrag №", "почему")
select id, 'beschädigt, “wie gesehen”' from orders where id % 500 = 0;

create index orders_by_customer on orders (customer, placed);
