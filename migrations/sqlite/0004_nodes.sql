-- Running processes, and which of them sends what.

-- Processes, by the name they were given.
create table nodes (
    -- Part of every id that the process makes.
    id          integer primary key check (id between 0 and 1023),
    name        text    not null unique,
    -- Rises each time a process registers under this number.
    epoch       integer not null,
    -- It wants lanes.
    dispatching integer not null check (dispatching in (0, 1)),
    -- Renewed by heartbeats.
    lease_until integer not null
) strict;

-- The 256 lanes. A lane is owned if its owner's row has that epoch and a lease.
create table lanes (
    lane        integer primary key check (lane between 0 and 255),
    owner       integer,
    owner_epoch integer,
    check ((owner is null) = (owner_epoch is null))
) strict;

with recursive numbers (lane) as (
    values (0) union all select lane + 1 from numbers where lane < 255
)
insert into lanes (lane) select lane from numbers;
