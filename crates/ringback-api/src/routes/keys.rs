//! API keys. Managing them needs `admin`, which includes every scope: so nobody can
//! give what they have not.

pub(crate) mod create;
pub(crate) use create::create;
pub(crate) mod list;
pub(crate) use list::list;
pub(crate) mod revoke;
pub(crate) use revoke::revoke;

use ringback_model::time::rfc3339;
use ringback_store::Key;
use serde::Serialize;
use utoipa::ToSchema;

/// An API key, without the key itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(crate) struct KeyView {
    #[schema(example = "key_02xk6m3q9s0w1")]
    id: String,
    /// For people.
    name: String,
    /// What it may do.
    #[schema(value_type = Vec<String>, example = json!(["events:write"]))]
    scopes: Vec<&'static str>,
    /// The id of the application it is bound to: it sees nothing else.
    app: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
            app: key.app.map(|app| app.to_string()),
            created_at: rfc3339(key.created_at),
        }
    }
}
