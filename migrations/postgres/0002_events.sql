-- Events: immutable facts, as producers gave them.

-- Event types by number, so that rows are small.
create table ringback.event_types (
    id   integer generated always as identity primary key,
    name text    not null unique
);

-- Events, one partition per day of their ids' time: old days are dropped, never
-- deleted from. Partitions are made ahead by the service.
create table ringback.events (
    -- Milliseconds, node, sequence: sorts by acceptance.
    id          bigint  not null primary key,
    app_id      bigint  not null,
    type_id     integer not null,
    -- The producer's own id.
    external_id text,
    -- The producer's trace context, as it came.
    traceparent text,
    -- A JSON object of texts; null if there are none.
    labels      text,
    -- The bytes that are signed and sent: never jsonb, never written anew.
    data        bytea   not null
) partition by range (id);

-- JSON of this size compresses poorly for what it costs.
alter table ringback.events alter column data set storage external;

-- Labels of events that have any, for finding them.
create table ringback.event_labels (
    app_id   bigint not null,
    name     text   not null,
    value    text   not null,
    event_id bigint not null,
    primary key (app_id, name, value, event_id)
) partition by range (event_id);

-- Events that producers wrote in their own transactions and that are not accepted
-- yet: picked up, oldest first, and deleted in the commit that accepts them.
create table ringback.emitted (
    id          bigint generated always as identity primary key,
    app_id      bigint      not null,
    type        text        not null,
    external_id text,
    traceparent text,
    labels      text,
    data        bytea       not null,
    emitted_at  timestamptz not null default now()
);
