-- Order, rate and time: what subscriptions may ask for, and events may carry.

-- Attempts per second at most; null if there is no limit.
alter table subscription_versions add column rate_per_s real check (rate_per_s > 0);
-- 0 none, 1 fifo.
alter table subscription_versions
    add column ordering integer not null default 0 check (ordering in (0, 1));

-- Events with the same one keep their order on subscriptions that ask for it.
alter table events add column ordering_key text;
-- Not to be sent before; null for at once.
alter table events add column deliver_at integer;

-- Of the ordering key, if the subscription keeps order.
alter table outbox add column key_hash integer;

-- For the owner of a subscription that keeps order: which row of each key is the first.
create index retries_order on retries (subscription_id, key_hash, event_id)
    where key_hash is not null;

alter table emitted add column ordering_key text;
alter table emitted add column deliver_at integer;
