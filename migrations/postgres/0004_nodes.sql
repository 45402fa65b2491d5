-- Running processes, and which of them sends what.

-- Processes, by the name they were given.
create table ringback.nodes (
    -- Part of every id that the process makes.
    id          smallint    primary key check (id between 0 and 1023),
    name        text        not null unique,
    -- Rises each time a process registers under this number.
    epoch       bigint      not null,
    -- It wants lanes.
    dispatching boolean     not null,
    -- Renewed by heartbeats, by the database's clock.
    lease_until timestamptz not null
) with (fillfactor = 50);

-- The 256 lanes. A lane is owned if its owner's row has that epoch and a lease.
create table ringback.lanes (
    lane        smallint primary key check (lane between 0 and 255),
    owner       smallint,
    owner_epoch bigint,
    check ((owner is null) = (owner_epoch is null))
) with (fillfactor = 50);

insert into ringback.lanes (lane) select generate_series(0, 255);
