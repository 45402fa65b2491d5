//! Who calls, and whether they may.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use ringback_model::{AppId, KeyId, Scope};
use ringback_store::{Key, Registry, Within};

use crate::{Api, api_key, cache::Cache, error::ApiError};

/// A revoked key stops working within this and one read.
const KEEP: TimeDelta = TimeDelta::seconds(3);
/// Short: a key may be made right after its first use failed.
const KEEP_STRANGER: TimeDelta = TimeDelta::seconds(1);
const KEPT_KEYS: usize = 10_000;
/// Apart from the others: somebody who invents keys must not push known ones out.
const KEPT_STRANGERS: usize = 1_000;

/// The API key that a request came with.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Key>);

impl Caller {
    /// The key's id.
    pub(crate) fn key(&self) -> KeyId {
        self.0.id
    }

    /// Whose things it sees.
    pub(crate) fn within(&self) -> Within {
        self.0.app.map_or(Within::Everything, Within::App)
    }

    /// Whether it sees what belongs to `app`.
    pub(crate) fn sees(&self, app: AppId) -> bool {
        self.0.app.is_none_or(|bound| bound == app)
    }

    /// The application it is bound to.
    pub(crate) fn bound_to(&self) -> Option<AppId> {
        self.0.app
    }

    /// Whether it may do what needs `scope`.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.0.scopes.allow(scope)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        // Only routes without a scope have none: see `router`.
        parts
            .extensions
            .get()
            .cloned()
            .ok_or(ApiError::Unauthorized(NO_KEY))
    }
}

const NO_KEY: &str = "send `authorization: Bearer rbk_…`";
const UNKNOWN_KEY: &str = "this API key is not known, or was revoked";

/// API keys by their hashes, as read a moment ago.
pub(crate) struct Keys {
    known: Cache<[u8; 32], Arc<Key>>,
    strangers: Cache<[u8; 32], ()>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: Cache::new(KEPT_KEYS, KEEP),
            strangers: Cache::new(KEPT_STRANGERS, KEEP_STRANGER),
        }
    }
}

impl Keys {
    /// Who calls with these headers.
    pub(crate) async fn caller(
        &self,
        registry: &dyn Registry,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<Caller, ApiError> {
        let text = bearer(headers).ok_or(ApiError::Unauthorized(NO_KEY))?;
        let hash = api_key::hash_of(text).ok_or(ApiError::Unauthorized(UNKNOWN_KEY))?;
        if self.strangers.get(&hash, now).is_some() {
            return Err(ApiError::Unauthorized(UNKNOWN_KEY));
        }
        let read = async {
            match registry.key_by_hash(hash).await? {
                Some(key) => Ok(Arc::new(key)),
                None => Err(ApiError::Unauthorized(UNKNOWN_KEY)),
            }
        };
        let known = self.known.get_or_read(&hash, now, read).await;
        if let Err(ApiError::Unauthorized(_)) = known {
            self.known.remove(&hash);
            self.strangers.put(hash, (), now);
        }
        known.map(Caller)
    }

    /// Forgets a key that was just revoked here.
    pub(crate) fn forget(&self, id: KeyId) {
        self.known.forget(|key| key.id == id);
    }

    /// Forgets the keys of an application that was just deleted here.
    pub(crate) fn forget_bound_to(&self, app: AppId) {
        self.known.forget(|key| key.app == Some(app));
    }
}

/// The text behind `Bearer `.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_what_follows_the_scheme() {
        let cases = [
            ("Bearer rbk_x", Some("rbk_x")),
            ("bearer  rbk_x ", Some("rbk_x")),
            ("Basic rbk_x", None),
            ("rbk_x", None),
            ("Bearer", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
