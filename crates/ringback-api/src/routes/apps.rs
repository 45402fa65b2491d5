//! Applications: the subscriber's teams and accounts, the tenant boundary.

pub(crate) mod create;
pub(crate) use create::create;
pub(crate) mod list;
pub(crate) use list::list;
pub(crate) mod get;
pub(crate) use get::get;
pub(crate) mod update;
pub(crate) use update::update;
pub(crate) mod delete;
pub(crate) use delete::delete;
mod quotas;

use std::collections::BTreeMap;

use ringback_model::time::rfc3339;
use ringback_store::App;
use serde::Serialize;
use utoipa::ToSchema;

use self::quotas::QuotasView;
use crate::{Api, etag::ETag};

const MAX_NAME_CHARS: usize = 200;

/// An application: a subscriber's team or account, which owns everything else.
#[derive(Serialize, ToSchema)]
#[schema(as = Application)]
pub(crate) struct AppView {
    #[schema(example = "app_02xk6m3q9s0w1")]
    id: String,
    /// Its name in paths and bodies; unique.
    #[schema(example = "billing")]
    slug: String,
    /// For people.
    name: String,
    /// Your own notes.
    metadata: BTreeMap<String, String>,
    /// Its own quotas; `null` where it has the operator's.
    quotas: QuotasView,
    /// The quotas that hold for it; `null` where there is no limit.
    effective_quotas: QuotasView,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl AppView {
    fn new(api: &Api, app: App) -> Self {
        Self {
            id: app.id.to_string(),
            slug: app.slug.to_string(),
            name: app.name,
            metadata: app.metadata,
            quotas: app.quotas.into(),
            effective_quotas: app.quotas.or(api.config().quotas).into(),
            created_at: rfc3339(app.created_at),
            updated_at: rfc3339(app.updated_at),
        }
    }
}

fn etag(app: &App) -> ETag {
    ETag::of_version(app.revision, app.updated_at)
}
