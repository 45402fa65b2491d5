-- Filters by what is in an event, and what they are matched with without reading all of
-- an application's subscriptions after each change.

-- As the API takes it, without spaces; null wants every event of the chosen types.
alter table subscription_versions add column payload_filter text;

-- The version of its application at which the subscription last changed: who knows an
-- older one reads just what changed since. What did not change since this column was
-- added has 0, which is older than anything that is known.
alter table subscriptions add column app_version integer not null default 0;

-- For reading what changed, deleted ones too.
create index subscriptions_app_version on subscriptions (app_id, app_version)
    where kind = 'standard';
