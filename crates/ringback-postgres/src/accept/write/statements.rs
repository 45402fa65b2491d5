//! The statements that write accepted events.

/// Events without labels or keys, for subscriptions that are active and keep no order:
/// nearly all.
///
/// Answers which applications are no longer as they were when their events were
/// matched; if any is, it writes nothing, and takes no time to find that out per row.
pub(super) const WRITE_PLAIN: &str = r#"
    with stale as (
        select p.app_id, p.version from unnest($1::int8[], $2::int8[]) as p (app_id, version)
        where p.version is distinct from (
            select a.version from ringback.apps a where a.id = p.app_id and a.deleted_at is null
        )
    ), written as (
        insert into ringback.events
            (id, app_id, type_id, external_id, traceparent, labels, data)
        select * from unnest(
            $3::int8[], $4::int8[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::bytea[]
        )
        where not exists (select from stale)
    ), sent as (
        insert into ringback.outbox (event_id, subscription_id, lane)
        select * from unnest($10::int8[], $11::int8[], $12::int2[])
        where not exists (select from stale)
    )
    select app_id, version from stale
"#;

/// The same with everything that events can have. Rows hang on a guard: 0, or one
/// whose key was new, and whose emitted row was there. Answers stale applications as
/// above, and without an application the guards that were won, and as negative numbers
/// those whose emitted row was not there.
pub(super) const WRITE_ALL: &str = r#"
    with stale as (
        select p.app_id, p.version from unnest($1::int8[], $2::int8[]) as p (app_id, version)
        where p.version is distinct from (
            select a.version from ringback.apps a where a.id = p.app_id and a.deleted_at is null
        )
    ), emitted as materialized (
        select * from unnest($40::int8[], $41::int4[]) as e (id, guard)
        where not exists (select from stale)
    ), here as materialized (
        -- Whoever has one of them in hand deletes it, or lets it be found again.
        select e.id from ringback.emitted e
        where e.id = any (array(select id from emitted))
        for update skip locked
    ), taken as materialized (
        select guard from emitted where id not in (select id from here)
    ), key as materialized (
        select * from unnest(
            $27::int8[], $28::bytea[], $29::bytea[], $30::int8[], $31::int4[], $32::bytea[],
            $33::int4[]
        ) as k (owner_id, key_hash, body_hash, event_id, deliveries, answer, guard)
        where not exists (select from stale) and guard not in (select guard from taken)
    ), new as (
        insert into ringback.idempotency as known
            (owner_id, key_hash, body_hash, created_at, event_id, deliveries, answer)
        select owner_id, key_hash, body_hash, $34, event_id, deliveries, answer
        from key
        -- So that two batches with the same keys wait in one direction.
        order by owner_id, key_hash
        on conflict (owner_id, key_hash) do update
        set body_hash = excluded.body_hash, created_at = excluded.created_at,
            event_id = excluded.event_id, deliveries = excluded.deliveries,
            answer = excluded.answer
        where known.answer is null and known.event_id is null and known.created_at < $35
        returning owner_id, key_hash
    ), won as materialized (
        select key.guard from key join new using (owner_id, key_hash)
        union all select 0 where not exists (select from stale)
        union all select guard from emitted
        where guard <> all ($33) and guard not in (select guard from taken)
    ), picked_up as (
        delete from ringback.emitted
        where id = any (array(select id from emitted where guard in (select guard from won)))
    ), written as (
        insert into ringback.events
            (id, app_id, type_id, external_id, traceparent, labels, data, ordering_key, deliver_at)
        select id, app_id, type_id, external_id, traceparent, labels, data, ordering_key,
            deliver_at
        from unnest(
            $3::int8[], $4::int8[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::bytea[],
            $13::int4[], $36::text[], $37::timestamptz[]
        ) as e (id, app_id, type_id, external_id, traceparent, labels, data, guard, ordering_key,
            deliver_at)
        where guard in (select guard from won)
    ), sent as (
        insert into ringback.outbox (event_id, subscription_id, lane, key_hash)
        select event_id, subscription_id, lane, key_hash
        from unnest($10::int8[], $11::int8[], $12::int2[], $14::int4[], $38::int8[])
            as s (event_id, subscription_id, lane, guard, key_hash)
        where guard in (select guard from won)
    ), held as (
        insert into ringback.retries
            (event_id, subscription_id, lane, app_id, type_id, key_hash, attempts_made, due_at)
        select event_id, subscription_id, lane, app_id, type_id, key_hash, 0, due_at
        from unnest(
            $15::int8[], $16::int8[], $17::int2[], $18::int8[], $19::int4[], $20::int4[],
            $39::int8[], $26::timestamptz[]
        ) as h (event_id, subscription_id, lane, app_id, type_id, guard, key_hash, due_at)
        where guard in (select guard from won)
    ), labelled as (
        insert into ringback.event_labels (app_id, name, value, event_id)
        select app_id, name, value, event_id
        from unnest($21::int8[], $22::text[], $23::text[], $24::int8[], $25::int4[])
            as l (app_id, name, value, event_id, guard)
        where guard in (select guard from won)
    )
    select app_id, version from stale
    union all select null, guard from won where guard <> 0
    union all select null, -guard from taken
"#;

/// Keys alone; answers a row for each that was new.
pub(super) const WRITE_KEYS: &str = r#"
    insert into ringback.idempotency as known
        (owner_id, key_hash, body_hash, created_at, event_id, deliveries, answer)
    select owner_id, key_hash, body_hash, $8, event_id, deliveries, answer
    from unnest(
        $1::int8[], $2::bytea[], $3::bytea[], $4::int8[], $5::int4[], $6::bytea[], $7::int4[]
    ) as k (owner_id, key_hash, body_hash, event_id, deliveries, answer, guard)
    order by owner_id, key_hash
    on conflict (owner_id, key_hash) do update
    set body_hash = excluded.body_hash, created_at = excluded.created_at,
        event_id = excluded.event_id, deliveries = excluded.deliveries,
        answer = excluded.answer
    where known.answer is null and known.event_id is null and known.created_at < $9
    returning 1
"#;
