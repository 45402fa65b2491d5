-- Subscriptions that have had nothing but failures for more than a minute, one row each:
-- the first success deletes it, so one that works never writes here.
create table ringback.subscription_health (
    subscription_id bigint      primary key references ringback.subscriptions,
    -- The first failure after the last success.
    failing_since   timestamptz not null,
    -- How far its owner was warned, in percent of the way to being disabled.
    warned          smallint    not null check (warned in (0, 50, 70, 90))
);
