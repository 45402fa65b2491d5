//! `POST /v1/apps`

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{StatusCode, header::LOCATION};
use ringback_model::{AppId, Quotas, Slug};
use ringback_store::{CreatedApp, NewApp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    AppView, MAX_NAME_CHARS, etag,
    quotas::{self, QuotasBody},
};
use crate::{Api, auth::Caller, body::JsonBody, error::ApiError, faults::Faults, json::Json};

/// An application to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApplication {
    /// Its name in paths and bodies: 1 to 64 lower-case letters, digits, `-` and `_`.
    #[schema(example = "billing")]
    slug: String,
    /// For people; the slug if it is left out.
    name: Option<String>,
    /// Your own notes.
    metadata: Option<BTreeMap<String, String>>,
    /// How much it may bring in; what is `null` or left out is as the operator set it.
    quotas: Option<QuotasBody>,
}

/// Create an application
#[utoipa::path(
    post,
    path = "/v1/apps",
    tag = "applications",
    operation_id = "create_app",
    request_body = CreateApplication,
    responses((status = 201, description = "It is created.", body = AppView))
)]
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateApplication>,
) -> Result<Response, ApiError> {
    // It could not see what it creates.
    if caller.bound_to().is_some() {
        return Err(ApiError::BoundKey);
    }
    let app = parse(&api, body)?;
    match api.store().create_app(app, api.now()).await? {
        CreatedApp::Created(app) => {
            let location = format!("/v1/apps/{}", app.id);
            let tag = etag(&app);
            let view = Json(AppView::new(&api, app));
            Ok(tag.put_on((StatusCode::CREATED, [(LOCATION, location)], view)))
        }
        CreatedApp::SlugTaken => Err(slug_taken()),
    }
}

pub(super) fn slug_taken() -> ApiError {
    ApiError::Conflict {
        code: "slug_taken",
        detail: "another application has this slug: choose another".to_owned(),
        pointer: Some("/slug".to_owned()),
    }
}

fn parse(api: &Api, body: CreateApplication) -> Result<NewApp, ApiError> {
    let mut faults = Faults::default();
    let slug = faults.keep("/slug", "bad_slug", body.slug.parse::<Slug>());
    let name = body.name.unwrap_or(body.slug);
    let metadata = body.metadata.unwrap_or_default();
    faults.check_text("/name", &name, MAX_NAME_CHARS);
    faults.check_pairs("/metadata", "note", &metadata);
    let quotas = body
        .quotas
        .unwrap_or_default()
        .merge_into(Quotas::default());
    quotas::check(&mut faults, quotas);
    let slug = faults.finish_with(slug)?;
    Ok(NewApp {
        id: AppId::new(api.next_id()?),
        slug,
        name,
        metadata,
        quotas,
    })
}
