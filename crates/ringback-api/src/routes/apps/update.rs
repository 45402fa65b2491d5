//! `PATCH /v1/apps/{app}`

use axum::{extract::State, response::Response};
use http::HeaderMap;
use ringback_model::{Quotas, Slug};
use ringback_store::{App, AppChange, AppRef, Changed};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    AppView, MAX_NAME_CHARS,
    create::slug_taken,
    etag,
    quotas::{self, QuotasBody},
};
use crate::{
    Api,
    auth::Caller,
    body::JsonBody,
    error::ApiError,
    faults::Faults,
    json::Json,
    patch::{MapPatch, Patch, TRIES},
    routes::path::{Named, visible_app},
};

/// What to change of an application: fields left out stay as they are, `null` sets the
/// default.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateApplication {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    slug: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    /// Merged with what is there; `null` removes an entry.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Option<String>>>)]
    metadata: MapPatch,
    /// Merged with what is there; `null` for the operator's. Not for keys that are bound
    /// to the application.
    #[serde(default)]
    #[schema(value_type = Option<QuotasBody>)]
    quotas: Patch<QuotasBody>,
}

/// Change an application
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}",
    tag = "applications",
    operation_id = "update_app",
    params(("app" = String, Path, description = "Its id or slug.")),
    request_body(content = UpdateApplication, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "As it is now.", body = AppView))
)]
pub(crate) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Named(app): Named<AppRef>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<UpdateApplication>,
) -> Result<Response, ApiError> {
    // They are what the operator grants, not what the application takes.
    if caller.bound_to().is_some() && body.quotas != Patch::Keep {
        return Err(ApiError::BoundKey);
    }
    for _ in 0..TRIES {
        let present = visible_app(&api, &caller, &app).await?;
        let knows = etag(&present).check_if_match(&headers)?;
        // Merged with what was just read, so that must still be there.
        let expected = Some(present.revision);
        let (id, change) = (present.id, parse(present, body.clone())?);
        match api
            .store()
            .update_app(id, change, expected, api.now())
            .await?
        {
            Changed::Done(app) => {
                api.matching().changed(app.id);
                api.quotas().changed(app.id);
                let tag = etag(&app);
                return Ok(tag.put_on(Json(AppView::new(&api, app))));
            }
            Changed::NotFound => return Err(ApiError::not_found("application")),
            Changed::NameTaken => return Err(slug_taken()),
            Changed::Outdated if knows => break,
            Changed::Outdated => {}
        }
    }
    Err(ApiError::OutOfDate)
}

fn parse(present: App, body: UpdateApplication) -> Result<AppChange, ApiError> {
    let mut faults = Faults::default();
    let slug = match body.slug {
        Patch::Keep => present.slug.clone(),
        Patch::Reset => {
            faults.add("/slug", "missing", "cannot be removed");
            present.slug.clone()
        }
        Patch::Set(text) => {
            let slug = faults.keep("/slug", "bad_slug", text.parse::<Slug>());
            slug.unwrap_or(present.slug.clone())
        }
    };
    let name = body.name.or_reset_to(|| slug.to_string());
    let metadata = body.metadata.merge_into(present.metadata);
    let quotas = match body.quotas {
        Patch::Keep => None,
        Patch::Reset => Some(Quotas::default()),
        Patch::Set(changes) => Some(changes.merge_into(present.quotas)),
    };
    quotas::check(&mut faults, quotas.unwrap_or_default());
    if let Some(name) = &name {
        faults.check_text("/name", name, MAX_NAME_CHARS);
    }
    if let Some(metadata) = &metadata {
        faults.check_pairs("/metadata", "note", metadata);
    }
    faults.finish()?;
    Ok(AppChange {
        slug: (slug != present.slug).then_some(slug),
        name,
        metadata,
        quotas,
    })
}
