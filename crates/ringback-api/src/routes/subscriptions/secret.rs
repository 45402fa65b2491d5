//! `GET /v1/subscriptions/{sub}/secret` and `POST …/rotate-secret`

use std::time::Duration;

use axum::extract::State;
use ringback_model::{SubscriptionId, time::rfc3339};
use ringback_store::StoredSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{config, secret_context};
use crate::{
    Api,
    auth::Caller,
    body::OptionalJsonBody,
    error::{ApiError, InternalCause},
    faults::Faults,
    json::Json,
    routes::path::Named,
};

const DEFAULT_OVERLAP_S: f64 = 86_400.0;
const MAX_OVERLAP_S: f64 = 30.0 * 86_400.0;

/// The secrets that requests are signed with right now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Secrets {
    /// Newest first; more than one while a rotation is under way.
    secrets: Vec<Secret>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Secret {
    /// `whsec_` and base64.
    secret: String,
    /// When it stops being used; null for the newest.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Get a subscription's signing secrets
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{sub}/secret",
    tag = "subscriptions",
    operation_id = "get_subscription_secret",
    params(("sub" = String, Path, description = "Its id.")),
    responses((status = 200, description = "Here they are.", body = Secrets))
)]
pub(crate) async fn secret(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
) -> Result<Json<Secrets>, ApiError> {
    let stored = api.store().secrets(id, caller.within(), api.now()).await?;
    let stored = stored.ok_or(ApiError::not_found("subscription"))?;
    let secrets = stored.iter().map(|secret| reveal(&api, id, secret));
    Ok(Json(Secrets {
        secrets: secrets.collect::<Result<_, _>>()?,
    }))
}

fn reveal(api: &Api, id: SubscriptionId, stored: &StoredSecret) -> Result<Secret, ApiError> {
    let opened = api.vault().open(&secret_context(id), &stored.secret)?;
    let secret = String::from_utf8(opened).map_err(|_| InternalCause::Corrupt("secret"))?;
    Ok(Secret {
        secret,
        expires_at: stored.expires_at.map(rfc3339),
    })
}

/// How to rotate a secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateSecret {
    /// The new one: `whsec_` and 24 to 64 bytes in base64. Made if left out.
    secret: Option<String>,
    /// For how many seconds requests are signed with the old one too: 0 to 2592000,
    /// 86400 if left out.
    overlap_s: Option<f64>,
}

/// A secret that was just rotated.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedSecret {
    /// The new one.
    secret: String,
    /// When the old one stops being used.
    #[schema(format = DateTime)]
    previous_expires_at: String,
}

/// Rotate a subscription's signing secret
///
/// For a while requests carry two signatures, so that no receiver has to change over in
/// the same moment.
#[utoipa::path(
    post,
    path = "/v1/subscriptions/{sub}/rotate-secret",
    tag = "subscriptions",
    operation_id = "rotate_subscription_secret",
    params(("sub" = String, Path, description = "Its id.")),
    request_body = RotateSecret,
    responses((status = 200, description = "The new secret.", body = RotatedSecret))
)]
pub(crate) async fn rotate_secret(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<SubscriptionId>,
    OptionalJsonBody(body): OptionalJsonBody<RotateSecret>,
) -> Result<Json<RotatedSecret>, ApiError> {
    let subscription = super::visible(&api, &caller, id).await?;
    let mut faults = Faults::default();
    let secret = config::secret(&mut faults, body.secret.as_deref());
    let overlap_s = body.overlap_s.unwrap_or(DEFAULT_OVERLAP_S);
    if !(0.0..=MAX_OVERLAP_S).contains(&overlap_s) {
        faults.add(
            "/overlap_s",
            "out_of_range",
            "must be from 0 to 2592000 seconds",
        );
    }
    let secret = faults.finish_with(secret)?;
    let now = api.now();
    let expires_at = now + Duration::from_secs_f64(overlap_s);
    let sealed = api
        .vault()
        .seal(&secret_context(id), secret.reveal().as_bytes());
    if !api
        .store()
        .rotate_secret(id, caller.within(), sealed, expires_at, now)
        .await?
    {
        return Err(ApiError::not_found("subscription"));
    }
    api.subscription_changed(subscription.app, id);
    let previous_expires_at = rfc3339(expires_at);
    Ok(Json(RotatedSecret {
        secret: secret.reveal(),
        previous_expires_at,
    }))
}
