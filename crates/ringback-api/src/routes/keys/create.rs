//! `POST /v1/keys`

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, LOCATION},
};
use ringback_model::{AppId, KeyId, Scope, Scopes};
use ringback_store::NewKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::KeyView;
use crate::{
    Api, api_key,
    auth::Caller,
    body::JsonBody,
    error::ApiError,
    faults::Faults,
    json::Json,
    routes::path::{app_ref, visible_app},
};

const MAX_NAME_CHARS: usize = 200;

/// An API key to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// For people.
    #[schema(example = "billing's producer")]
    name: String,
    /// What it may do: `events:write`, `subscriptions:read`, `subscriptions:write`,
    /// `deliveries:read`, `payloads:read`, `replay`, `jobs:read`, `jobs:write`,
    /// `jobs:work`, `admin`.
    #[schema(example = json!(["events:write"]))]
    scopes: Vec<String>,
    /// Binds it to an application, by id or slug: it sees nothing else.
    app: Option<String>,
}

/// An API key that was just created: the only time that it is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    view: KeyView,
    /// The key itself.
    #[schema(example = "rbk_…")]
    key: String,
}

/// Create an API key
///
/// A key that is bound to an application makes keys that are bound to it.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    operation_id = "create_key",
    request_body = CreateKey,
    responses((status = 201, description = "It is created.", body = CreatedKey))
)]
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateKey>,
) -> Result<Response, ApiError> {
    let scopes = check(&body)?;
    let app = bind_to(&api, &caller, body.app.as_deref()).await?;
    let (key, hash) = api_key::new_api_key(rand::random());
    let new = NewKey {
        id: KeyId::new(api.next_id()?),
        hash,
        name: body.name,
        scopes,
        app,
    };
    let stored = api.store().create_key(new, api.now()).await?;
    let location = format!("/v1/keys/{}", stored.id);
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    let view = Json(CreatedKey {
        view: stored.into(),
        key,
    });
    Ok((StatusCode::CREATED, headers, view).into_response())
}

fn check(body: &CreateKey) -> Result<Scopes, ApiError> {
    let mut faults = Faults::default();
    faults.check_text("/name", &body.name, MAX_NAME_CHARS);
    if body.scopes.is_empty() {
        faults.add("/scopes", "empty", "is empty: the key could do nothing");
    }
    let parse = |(index, text): (usize, &String)| {
        faults.keep(
            &format!("/scopes/{index}"),
            "unknown_scope",
            text.parse::<Scope>(),
        )
    };
    let scopes = body.scopes.iter().enumerate().filter_map(parse).collect();
    faults.finish()?;
    Ok(scopes)
}

async fn bind_to(api: &Api, caller: &Caller, app: Option<&str>) -> Result<Option<AppId>, ApiError> {
    let Some(text) = app else {
        return Ok(caller.bound_to());
    };
    let no_such_app = || ApiError::NotFound {
        noun: "application",
        pointer: Some("/app".to_owned()),
    };
    let app = app_ref(text).ok_or_else(no_such_app)?;
    match visible_app(api, caller, &app).await {
        Ok(app) => Ok(Some(app.id)),
        Err(ApiError::NotFound { .. }) => Err(no_such_app()),
        Err(other) => Err(other),
    }
}
