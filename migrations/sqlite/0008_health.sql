-- Subscriptions that have had nothing but failures for more than a minute, one row each:
-- the first success deletes it, so one that works never writes here.
create table subscription_health (
    subscription_id integer primary key references subscriptions,
    -- The first failure after the last success.
    failing_since   integer not null,
    -- How far its owner was warned, in percent of the way to being disabled.
    warned          integer not null check (warned in (0, 50, 70, 90))
) strict;
