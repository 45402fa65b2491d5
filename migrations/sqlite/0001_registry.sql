-- What people set up: applications, subscriptions, API keys.
--
-- Times are Unix milliseconds throughout. Tables with a key of several columns are
-- kept in the order of that key, without a second tree of row ids.

-- Applications: the tenant boundary.
create table apps (
    id          integer primary key,
    slug        text    not null,
    name        text    not null,
    -- A JSON object of texts: the operator's own notes.
    metadata    text    not null,
    -- Rises with every change of the columns above: for ETag and If-Match.
    revision    integer not null default 1,
    -- Rises with every change of the application or any of its subscriptions. An
    -- event is stored only if it was matched under the current one.
    version     integer not null default 1,
    created_at  integer not null,
    updated_at  integer not null,
    deleted_at  integer
) strict;

-- For finding an application by its slug; a deleted one frees it.
create unique index apps_slug on apps (slug) where deleted_at is null;

-- Subscriptions: one application's standing wishes, and callbacks' hidden ones.
create table subscriptions (
    id            integer primary key,
    app_id        integer not null references apps,
    -- A callback's subscription matches no event and appears in no list.
    kind          text    not null check (kind in ('standard', 'callback')),
    -- Fixed at creation. The owner of the lane sends what is for this subscription.
    lane          integer not null check (lane between 0 and 255),
    -- 0 active, 1 paused, 2 disabled.
    status        integer not null check (status in (0, 1, 2)),
    -- Why it is not active, when a machine decided that.
    status_reason text,
    -- The current row of subscription_versions.
    version       integer not null,
    created_at    integer not null,
    -- When status, configuration or secrets last changed.
    updated_at    integer not null,
    deleted_at    integer
) strict;

-- For lists, and for matching an application's events.
create index subscriptions_app on subscriptions (app_id, id)
    where deleted_at is null and kind = 'standard';

-- For dispatchers that ask what changed since they last looked.
create index subscriptions_updated on subscriptions (updated_at);

-- What a subscription's owner chose, as it was at each time: attempts name the
-- version they used, so their requests can be shown without being stored.
create table subscription_versions (
    subscription_id integer not null references subscriptions,
    version         integer not null,
    url             text    not null,
    -- A JSON array of patterns.
    event_types     text    not null,
    -- Extra request headers as JSON, sealed: they often hold credentials.
    headers         blob,
    -- JSON, as in the API.
    retry           text    not null,
    timeout_ms      integer not null check (timeout_ms > 0),
    max_in_flight   integer not null check (max_in_flight > 0),
    description     text    not null,
    -- A JSON object of texts.
    labels          text    not null,
    created_at      integer not null,
    primary key (subscription_id, version)
) strict, without rowid;

-- Signing secrets, sealed. The newest has no end; those before it end after the
-- overlap of a rotation.
create table subscription_secrets (
    subscription_id integer not null references subscriptions,
    -- Counts the secrets of a subscription, so that the newest is the highest.
    number          integer not null,
    secret          blob    not null,
    created_at      integer not null,
    expires_at      integer,
    primary key (subscription_id, number)
) strict, without rowid;

-- At most one secret per subscription has no end.
create unique index subscription_secrets_newest
    on subscription_secrets (subscription_id) where expires_at is null;

-- API keys: only their hashes.
create table keys (
    id         integer primary key,
    -- SHA-256 of the key.
    hash       blob    not null unique check (length(hash) = 32),
    name       text    not null,
    -- Scopes as the API writes them, separated by spaces.
    scopes     text    not null,
    -- The application it is bound to, if it is.
    app_id     integer references apps,
    created_at integer not null,
    revoked_at integer
) strict;

-- Requests and events that must not be done twice, for at least a day. The order of
-- its row ids is that of time, and rows are forgotten in that order: this is why it
-- has them, although it has a key.
create table idempotency (
    -- For a producer's own event id: the application. For an `Idempotency-Key`: the
    -- API key that sent it. Ids of the two never meet.
    owner_id   integer not null,
    -- SHA-256 of the id or the header's value.
    key_hash   blob    not null check (length(key_hash) = 32),
    -- SHA-256 of what came with it: the same key with another body is refused.
    body_hash  blob    not null check (length(body_hash) = 32),
    created_at integer not null,
    -- What the first event under a producer's id was answered.
    event_id   integer,
    deliveries integer,
    -- What the first request under an `Idempotency-Key` was answered; null while it
    -- is still running.
    answer     blob,
    primary key (owner_id, key_hash)
) strict;
