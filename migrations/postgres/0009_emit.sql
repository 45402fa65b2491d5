-- Events from the producer's own transaction, and those that Ringback emits itself.

-- Rows come and go like those of the outbox, so the table is kept small as that is.
alter table ringback.emitted set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 2000000000,
    vacuum_truncate = off
);

-- As in `events`: compressing it costs more than it saves, all the more for so short a stay.
alter table ringback.emitted alter column data set storage external;

-- Whatever was written around `emit`, one row must not make the others unreadable.
alter table ringback.emitted
    add check (deliver_at between timestamptz '2000-01-01 00:00Z' and '2500-01-01 00:00Z');

-- Emits an event as part of the caller's transaction: it is delivered if that commits,
-- and was never there if it does not.
--
-- The rules are those of `POST /v1/events`, and what breaks one fails here, where the
-- producer hears of it. A role may be granted this function and nothing else: it runs
-- with its owner's rights, and names every table in full.
--
-- Nothing is notified: a notification would take a lock, at every commit, that all
-- transactions of all databases of a server share.
create function ringback.emit(
    -- The application's id or slug.
    app          text,
    type         text,
    -- Kept as it is written, but for spaces around it.
    data         json,
    -- The producer's own id: at most one event per application and id.
    id           text        default null,
    -- An object of texts.
    labels       json        default null,
    ordering_key text        default null,
    -- Not to be delivered before.
    deliver_at   timestamptz default null,
    -- Left out if it is none, as that of a request would be.
    traceparent  text        default null
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $emit$
declare
    app_id     bigint;
    number     numeric := 0;
    body       bytea;
    brackets   text;
    depth      integer := 0;
    pairs      integer := 0;
    label      record;
    label_text text;
begin
    if emit.app ~ '^app_[0-9a-hjkmnp-tv-z]{13}$' collate "C" then
        for place in 5..17 loop
            number := number * 32
                + strpos('0123456789abcdefghjkmnpqrstvwxyz', substr(emit.app, place, 1)) - 1;
        end loop;
        select a.id into app_id from ringback.apps a
        where a.id = case when number <= 9223372036854775807 then number::bigint end
            and a.deleted_at is null;
    else
        select a.id into app_id from ringback.apps a
        where a.slug = emit.app and a.deleted_at is null;
    end if;
    if app_id is null then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('there is no application %L', emit.app),
            hint = 'Give the id or the slug of an application that is not deleted.';
    end if;

    if emit.type is null or length(emit.type) > 128
        or emit.type !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' collate "C"
    then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('%L is not an event type', emit.type),
            hint = 'Use parts of letters, digits, "_" and "-", separated by dots, at most 128 '
                'characters in all, like order.paid.';
    end if;
    if split_part(emit.type, '.', 1) = 'ringback' then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('%L is a type of events that Ringback emits itself', emit.type),
            hint = 'Choose a type that does not begin with "ringback".';
    end if;

    if emit.data is null then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'data is missing', hint = 'For no data, give the JSON value null.';
    end if;
    body := convert_to(btrim(emit.data::text, E' \t\n\r'), 'UTF8');
    if octet_length(body) > 262144 then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('data is %s bytes, and at most 262144 are taken', octet_length(body)),
            hint = 'Send a reference to what is large instead.';
    end if;
    -- Only what has enough brackets can be too deep; then strings are taken out, and one
    -- level of brackets after another.
    if length(emit.data::text) - length(translate(emit.data::text, '[{', '')) > 127 then
        brackets := regexp_replace(emit.data::text, '"([^"\\]|\\.)*"|[^][{}"]+', '', 'g');
        brackets := translate(brackets, '{}', '[]');
        while brackets <> '' loop
            depth := depth + 1;
            if depth > 127 then
                raise exception using errcode = 'invalid_parameter_value',
                    message = 'data nests deeper than 127 levels',
                    hint = 'Receivers'' parsers go no deeper.';
            end if;
            brackets := replace(brackets, '[]', '');
        end loop;
    end if;

    if emit.id = '' or char_length(emit.id) > 255 then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'id is empty or longer than 255 characters',
            hint = 'Leave it out if the event has no id of your own.';
    end if;
    if emit.ordering_key = '' or char_length(emit.ordering_key) > 255 then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'ordering_key is empty or longer than 255 characters',
            hint = 'Leave it out if the event has none.';
    end if;

    if emit.labels is not null then
        if json_typeof(emit.labels) <> 'object' then
            raise exception using errcode = 'invalid_parameter_value',
                message = 'labels is not an object',
                hint = 'Give an object of texts, like {"order":"1042"}.';
        end if;
        for label in
            select l.key, json_typeof(l.value) as kind, l.value #>> '{}' as value
            from json_each(emit.labels) l
        loop
            pairs := pairs + 1;
            if label.key !~ '^[A-Za-z0-9_./-]{1,64}$' collate "C" then
                raise exception using errcode = 'invalid_parameter_value',
                    message = format('%L is no name of a label', label.key),
                    hint = 'Use 1 to 64 letters, digits, "_", ".", "/" and "-".';
            end if;
            if label.kind <> 'string' or char_length(label.value) > 512 then
                raise exception using errcode = 'invalid_parameter_value',
                    message = format('the label %L is not a text of at most 512 characters',
                        label.key),
                    hint = 'Write numbers as texts: {"order":"1042"}.';
            end if;
        end loop;
        if pairs > 50 then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('there are %s labels, and at most 50 are taken', pairs),
                hint = 'Labels are for searching; the rest belongs into data.';
        end if;
        label_text := case when pairs > 0 then emit.labels::text end;
    end if;

    if not isfinite(emit.deliver_at) or emit.deliver_at < '2000-01-01 00:00Z'
        or emit.deliver_at > clock_timestamp() + interval '30 days'
    then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('deliver_at is %s, more than 30 days ahead or no time at all',
                emit.deliver_at),
            hint = 'Emit it later.';
    end if;

    insert into ringback.emitted
        (app_id, type, external_id, traceparent, labels, data, ordering_key, deliver_at)
    values (
        app_id, emit.type, emit.id,
        case when emit.traceparent
            ~ '^(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' collate "C"
        then emit.traceparent end,
        label_text, body, emit.ordering_key,
        -- Whole milliseconds, and never earlier.
        date_trunc('milliseconds', emit.deliver_at + interval '999 microseconds')
    );
end
$emit$;

comment on function ringback.emit is
    'Emits an event as part of the calling transaction: see docs/emit.md of Ringback.';

-- Nobody may call it but those it is granted to.
revoke all on function ringback.emit from public;
