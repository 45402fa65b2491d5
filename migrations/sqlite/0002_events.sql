-- Events: immutable facts, as producers gave them.

-- Event types by number, so that rows are small.
create table event_types (
    id   integer primary key,
    name text    not null unique
) strict;

-- Events, in the order of acceptance.
create table events (
    -- Milliseconds, node, sequence: sorts by acceptance.
    id          integer primary key,
    app_id      integer not null,
    type_id     integer not null,
    -- The producer's own id.
    external_id text,
    -- The producer's trace context, as it came.
    traceparent text,
    -- A JSON object of texts; null if there are none.
    labels      text,
    -- The bytes that are signed and sent: never parsed, never written anew.
    data        blob    not null
) strict;

-- Labels of events that have any, for finding them.
create table event_labels (
    app_id   integer not null,
    name     text    not null,
    value    text    not null,
    event_id integer not null,
    primary key (app_id, name, value, event_id)
) strict, without rowid;

-- Events that producers wrote in their own transactions and that are not accepted
-- yet: picked up, oldest first, and deleted in the commit that accepts them.
create table emitted (
    id          integer primary key,
    app_id      integer not null,
    type        text    not null,
    external_id text,
    traceparent text,
    labels      text,
    data        blob    not null,
    emitted_at  integer not null default (cast(unixepoch('subsec') * 1000 as integer))
) strict;
