-- Ringback's own events. Those from the producer's own transaction are PostgreSQL's: it
-- has functions.

-- Made anew, since nothing wrote to it before: ids must not be used again, so that what
-- comes later has a higher one, also when the table was empty in between.
drop table emitted;
create table emitted (
    id           integer primary key autoincrement,
    app_id       integer not null,
    type         text    not null,
    external_id  text,
    traceparent  text,
    labels       text,
    data         blob    not null,
    emitted_at   integer not null default (cast(unixepoch('subsec') * 1000 as integer)),
    ordering_key text,
    deliver_at   integer
) strict;
