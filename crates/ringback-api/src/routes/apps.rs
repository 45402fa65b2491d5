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

use std::collections::BTreeMap;

use ringback_model::time::rfc3339;
use ringback_store::App;
use serde::Serialize;
use utoipa::ToSchema;

use crate::etag::ETag;

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
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<App> for AppView {
    fn from(app: App) -> Self {
        Self {
            id: app.id.to_string(),
            slug: app.slug.to_string(),
            name: app.name,
            metadata: app.metadata,
            created_at: rfc3339(app.created_at),
            updated_at: rfc3339(app.updated_at),
        }
    }
}

fn etag(app: &App) -> ETag {
    ETag::of_version(app.revision, app.updated_at)
}
