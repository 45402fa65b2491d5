-- Quotas: how much one application may bring in, and what its share of the disk is.

-- Null for what the operator set for all. Events per second:
alter table apps add column quota_events_per_s real check (quota_events_per_s > 0);
-- Deliveries that are not settled yet.
alter table apps
    add column quota_pending_deliveries integer check (quota_pending_deliveries > 0);
-- Bytes of `data` that are kept.
alter table apps add column quota_stored_bytes integer check (quota_stored_bytes > 0);

-- Bytes of `data` by application and day of acceptance: what is kept is the sum over the
-- days that are.
create table app_usage (
    app_id integer not null,
    -- Days since 1970-01-01.
    day    integer not null,
    bytes  integer not null check (bytes >= 0),
    primary key (app_id, day)
) without rowid;

-- For forgetting the oldest days.
create index app_usage_day on app_usage (day);
