-- Deliveries: what is to be sent, what waits, and what became of it.

-- The outbox: deliveries accepted and not yet settled, written in the commit that
-- accepts their event. A row is inserted once and deleted once, never updated, and
-- the table has no second index: both keep it small under any load.
create table outbox (
    -- Time-sorted, so a cursor over it reads in order of acceptance.
    event_id        integer not null,
    subscription_id integer not null,
    -- The subscription's. The owner of the lane sends its rows.
    lane            integer not null check (lane between 0 and 255),

    -- No foreign keys here: their checks would cost a look-up per parent and insert.
    primary key (lane, event_id, subscription_id)
) strict, without rowid;

-- Deliveries waiting for a time or for room, one row each. A subscription that is
-- paused leaves its rows here untouched: "held" is read off the subscription.
create table retries (
    subscription_id integer not null,
    event_id        integer not null,
    lane            integer not null check (lane between 0 and 255),
    -- For lists and order, so that neither has to read the event.
    app_id          integer not null,
    type_id         integer not null,
    -- Of the ordering key, if the subscription keeps order.
    key_hash        integer,
    last_code       integer,
    last_error      integer,
    -- Attempts that have ended, over all rounds.
    attempts_made   integer not null check (attempts_made >= 0),
    -- The attempt after which the schedule started afresh, by a replay.
    round_start     integer not null default 0
                            check (round_start between 0 and attempts_made),
    due_at          integer not null,
    primary key (subscription_id, event_id)
) strict, without rowid;

-- For the owner of a lane: which subscriptions have something due, and what.
create index retries_due on retries (lane, subscription_id, due_at, event_id);

-- For an application's list, newest event first.
create index retries_app on retries (app_id, event_id);

-- For the list of everything, newest event first, and for that of one event.
create index retries_event on retries (event_id, subscription_id);

-- Settled deliveries, one row each.
create table deliveries (
    event_id        integer not null,
    subscription_id integer not null,
    app_id          integer not null,
    settled_at      integer not null,
    type_id         integer not null,
    -- 2 delivered, 3 dead, 5 cancelled.
    status          integer not null check (status in (2, 3, 5)),
    -- Attempts that have ended, over all rounds.
    attempts        integer not null check (attempts >= 0),
    last_code       integer,
    last_error      integer,
    -- Why it is dead.
    dead_reason     integer check (dead_reason is null or status = 3),
    -- The last attempt, packed; null if none was made, or if it was no attempt that
    -- settled this.
    record          blob,
    primary key (event_id, subscription_id)
) strict, without rowid;

-- For lists of what did not arrive, of an application or a subscription. What did
-- arrive is nearly everything, and pays for no second index.
create index deliveries_app on deliveries (app_id, event_id) where status <> 2;
create index deliveries_subscription
    on deliveries (subscription_id, event_id) where status <> 2;

-- Attempts before the last: a first-time success costs no row here.
create table attempts (
    event_id        integer not null,
    subscription_id integer not null,
    -- Counted from 1 over all rounds.
    number          integer not null check (number > 0),
    -- The attempt, packed.
    record          blob    not null,
    primary key (event_id, subscription_id, number)
) strict, without rowid;
