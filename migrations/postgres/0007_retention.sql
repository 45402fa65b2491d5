-- Retention: days end, and what outlives its day is kept apart.

-- Which days have ended. One row; it is moved in the commit that keeps what is to be
-- kept of a day, so in every snapshot a delivery counts in one place alone.
create table ringback.ended (
    one      boolean primary key default true check (one),
    -- Of events before this one, only what is in the tables below is left.
    event_id bigint  not null
);

insert into ringback.ended (event_id) values (0);

-- What something still names: a row that waits, or a dead letter. Their columns are
-- those of the tables that lie in days, in the same order.
create table ringback.kept_events (like ringback.events including all);
create table ringback.kept_event_labels (like ringback.event_labels including all);
create table ringback.kept_deliveries (like ringback.deliveries including all);
create table ringback.kept_attempts (like ringback.attempts including all);

-- On the parts of an ended day, until they are gone: whoever would write there did not
-- know yet that it has ended, and has to look again.
create function ringback.refuse_ended() returns trigger language plpgsql as $$
begin
    raise exception 'this day has ended' using errcode = 'RB001';
end
$$;
