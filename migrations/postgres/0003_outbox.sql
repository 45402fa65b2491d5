-- Deliveries: what is to be sent, what waits, and what became of it.

-- The outbox: deliveries accepted and not yet settled, written in the commit that
-- accepts their event. A row is inserted once and deleted once, never updated, and
-- the table has no second index: both keep it small under any load.
create table ringback.outbox (
    -- Time-sorted, so a cursor over it reads in order of acceptance.
    event_id        bigint   not null,
    subscription_id bigint   not null,
    -- The subscription's. The owner of the lane sends its rows.
    lane            smallint not null check (lane between 0 and 255),

    -- No foreign keys here: their checks would lock a row of each parent per insert.
    primary key (lane, event_id, subscription_id)
) with (
    -- Vacuumed by the number of dead rows alone: the table is nearly empty.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0,
    -- Its statistics are of no use: it may be full or empty at the next moment.
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 2000000000,
    vacuum_truncate = off
);

-- Deliveries waiting for a time or for room, one row each. A subscription that is
-- paused leaves its rows here untouched: "held" is read off the subscription.
create table ringback.retries (
    subscription_id bigint      not null,
    event_id        bigint      not null,
    lane            smallint    not null check (lane between 0 and 255),
    -- For lists and order, so that neither has to read the event.
    app_id          bigint      not null,
    type_id         integer     not null,
    -- Of the ordering key, if the subscription keeps order.
    key_hash        bigint,
    last_code       smallint,
    last_error      smallint,
    -- Attempts that have ended, over all rounds.
    attempts_made   smallint    not null check (attempts_made >= 0),
    -- The attempt after which the schedule started afresh, by a replay.
    round_start     smallint    not null default 0
                                check (round_start between 0 and attempts_made),
    due_at          timestamptz not null,
    primary key (subscription_id, event_id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- For the owner of a lane: which subscriptions have something due, and what.
create index retries_due on ringback.retries (lane, subscription_id, due_at, event_id);

-- For an application's list, newest event first.
create index retries_app on ringback.retries (app_id, event_id, subscription_id);

-- Settled deliveries, one row each, by day like their events.
create table ringback.deliveries (
    event_id        bigint      not null,
    subscription_id bigint      not null,
    app_id          bigint      not null,
    settled_at      timestamptz not null,
    type_id         integer     not null,
    -- 2 delivered, 3 dead, 5 cancelled.
    status          smallint    not null check (status in (2, 3, 5)),
    -- Attempts that have ended, over all rounds.
    attempts        smallint    not null check (attempts >= 0),
    last_code       smallint,
    last_error      smallint,
    -- Why it is dead.
    dead_reason     smallint    check (dead_reason is null or status = 3),
    -- The last attempt, packed; null if none was made.
    record          bytea,
    primary key (event_id, subscription_id)
) partition by range (event_id);

-- For lists of what did not arrive, of an application or a subscription. What did
-- arrive is nearly everything, and pays for no second index.
create index deliveries_app
    on ringback.deliveries (app_id, event_id, subscription_id) where status <> 2;
create index deliveries_subscription
    on ringback.deliveries (subscription_id, event_id) where status <> 2;

-- Attempts before the last: a first-time success costs no row here.
create table ringback.attempts (
    event_id        bigint   not null,
    subscription_id bigint   not null,
    -- Counted from 1 over all rounds.
    number          smallint not null check (number > 0),
    -- The attempt, packed.
    record          bytea    not null,
    primary key (event_id, subscription_id, number)
) partition by range (event_id);
