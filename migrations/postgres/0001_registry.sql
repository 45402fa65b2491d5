-- What people set up: applications, subscriptions, API keys. The schema `ringback` is
-- made by whoever applies this, to keep the list of what was applied in it.

-- Applications: the tenant boundary.
create table ringback.apps (
    id          bigint      primary key,
    slug        text        not null,
    name        text        not null,
    -- A JSON object of texts: the operator's own notes.
    metadata    text        not null,
    -- Rises with every change of the columns above: for ETag and If-Match.
    revision    bigint      not null default 1,
    -- Rises with every change of the application or any of its subscriptions. An
    -- event is stored only if it was matched under the current one.
    version     bigint      not null default 1,
    created_at  timestamptz not null,
    updated_at  timestamptz not null,
    deleted_at  timestamptz
);

-- For finding an application by its slug; a deleted one frees it.
create unique index apps_slug on ringback.apps (slug) where deleted_at is null;

-- Subscriptions: one application's standing wishes, and callbacks' hidden ones.
create table ringback.subscriptions (
    id            bigint      primary key,
    app_id        bigint      not null references ringback.apps,
    -- A callback's subscription matches no event and appears in no list.
    kind          text        not null check (kind in ('standard', 'callback')),
    -- Fixed at creation. The owner of the lane sends what is for this subscription.
    lane          smallint    not null check (lane between 0 and 255),
    -- 0 active, 1 paused, 2 disabled.
    status        smallint    not null check (status in (0, 1, 2)),
    -- Why it is not active, when a machine decided that.
    status_reason text,
    -- The current row of subscription_versions.
    version       integer     not null,
    created_at    timestamptz not null,
    -- When status, configuration or secrets last changed.
    updated_at    timestamptz not null,
    deleted_at    timestamptz
);

-- For lists, and for matching an application's events.
create index subscriptions_app on ringback.subscriptions (app_id, id)
    where deleted_at is null and kind = 'standard';

-- For dispatchers that ask what changed since they last looked.
create index subscriptions_updated on ringback.subscriptions (updated_at);

-- What a subscription's owner chose, as it was at each time: attempts name the
-- version they used, so their requests can be shown without being stored.
create table ringback.subscription_versions (
    subscription_id bigint      not null references ringback.subscriptions,
    version         integer     not null,
    url             text        not null,
    -- A JSON array of patterns.
    event_types     text        not null,
    -- Extra request headers as JSON, sealed: they often hold credentials.
    headers         bytea,
    -- JSON, as in the API.
    retry           text        not null,
    timeout_ms      integer     not null check (timeout_ms > 0),
    max_in_flight   integer     not null check (max_in_flight > 0),
    description     text        not null,
    -- A JSON object of texts.
    labels          text        not null,
    created_at      timestamptz not null,
    primary key (subscription_id, version)
);

-- Signing secrets, sealed. The newest has no end; those before it end after the
-- overlap of a rotation.
create table ringback.subscription_secrets (
    subscription_id bigint      not null references ringback.subscriptions,
    -- Counts the secrets of a subscription, so that the newest is the highest.
    number          integer     not null,
    secret          bytea       not null,
    created_at      timestamptz not null,
    expires_at      timestamptz,
    primary key (subscription_id, number)
);

-- At most one secret per subscription has no end.
create unique index subscription_secrets_newest
    on ringback.subscription_secrets (subscription_id) where expires_at is null;

-- API keys: only their hashes.
create table ringback.keys (
    id         bigint      primary key,
    -- SHA-256 of the key.
    hash       bytea       not null unique check (octet_length(hash) = 32),
    name       text        not null,
    -- Scopes as the API writes them, separated by spaces.
    scopes     text        not null,
    -- The application it is bound to, if it is.
    app_id     bigint      references ringback.apps,
    created_at timestamptz not null,
    revoked_at timestamptz
);

-- Requests and events that must not be done twice, for at least a day.
create table ringback.idempotency (
    -- For a producer's own event id: the application. For an `Idempotency-Key`: the
    -- API key that sent it. Ids of the two never meet.
    owner_id   bigint      not null,
    -- SHA-256 of the id or the header's value.
    key_hash   bytea       not null check (octet_length(key_hash) = 32),
    -- SHA-256 of what came with it: the same key with another body is refused.
    body_hash  bytea       not null check (octet_length(body_hash) = 32),
    created_at timestamptz not null,
    -- What the first event under a producer's id was answered.
    event_id   bigint,
    deliveries integer,
    -- What the first request under an `Idempotency-Key` was answered; null while it
    -- is still running.
    answer     bytea,
    primary key (owner_id, key_hash)
);

-- For forgetting the oldest. A block range index would not do: space is used again, so
-- soon every range holds something old.
create index idempotency_created on ringback.idempotency (created_at);
