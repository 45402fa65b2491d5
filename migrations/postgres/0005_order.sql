-- Order, rate and time: what subscriptions may ask for, and events may carry.

alter table ringback.subscription_versions
    -- Attempts per second at most; null if there is no limit.
    add column rate_per_s double precision check (rate_per_s > 0),
    -- 0 none, 1 fifo.
    add column ordering   smallint         not null default 0 check (ordering in (0, 1));

alter table ringback.events
    -- Events with the same one keep their order on subscriptions that ask for it.
    add column ordering_key text,
    -- Not to be sent before; null for at once.
    add column deliver_at   timestamptz;

-- Of the ordering key, if the subscription keeps order. A null takes no room in a row
-- as short as these.
alter table ringback.outbox add column key_hash bigint;

-- For the owner of a subscription that keeps order: which row of each key is the first.
create index retries_order on ringback.retries (subscription_id, key_hash, event_id)
    where key_hash is not null;

alter table ringback.emitted
    add column ordering_key text,
    add column deliver_at   timestamptz;
