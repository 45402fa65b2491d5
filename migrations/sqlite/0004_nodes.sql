-- Running processes, and which of them sends what.

-- Processes, by the name they were given.
create table nodes (
    -- Part of every id that the process makes.
    id          integer    primary key check (id between 0 and 1023),
    name        text        not null unique,
    -- Rises each time a process registers under this number.
    epoch       integer      not null,
    -- It wants lanes.
    dispatching integer     not null,
    -- Renewed by heartbeats, by the database's clock.
    lease_until integer not null
) strict;

-- The 256 lanes. A lane is owned if its owner's row has that epoch and a lease.
create table lanes (
    lane        integer primary key check (lane between 0 and 255),
    owner       integer,
    owner_epoch integer,
    check ((owner is null) = (owner_epoch is null))
) strict;

insert into lanes (lane) select generate_series(0, 255);
