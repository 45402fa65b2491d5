-- Quotas: how much one application may bring in, and what its share of the disk is.

-- Null for what the operator set for all.
alter table ringback.apps
    -- Events per second.
    add column quota_events_per_s       double precision check (quota_events_per_s > 0),
    -- Deliveries that are not settled yet.
    add column quota_pending_deliveries bigint check (quota_pending_deliveries > 0),
    -- Bytes of `data` that are kept.
    add column quota_stored_bytes       bigint check (quota_stored_bytes > 0);

-- Bytes of `data` by application and day of acceptance: what is kept is the sum over the
-- days that are. Nodes add what they counted every few seconds.
create table ringback.app_usage (
    app_id bigint not null,
    day    date   not null,
    bytes  bigint not null check (bytes >= 0),
    primary key (app_id, day)
);

-- For forgetting the oldest days.
create index app_usage_day on ringback.app_usage (day);
