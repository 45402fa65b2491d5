//! What needs no key: health, metrics, documentation, the pages that problems link to.

use std::time::Duration;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{Html, IntoResponse, Response},
};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use ringback_metrics::Metrics;
use ringback_store::Connections;

use crate::{Api, docs_page, error::ApiError, json, openapi, problem::Kind};

/// How long `/metrics` waits for the database: Prometheus itself waits for ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Is the process alive?
#[utoipa::path(
    get,
    path = "/livez",
    tag = "system",
    operation_id = "livez",
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Can the service take requests?
///
/// It can if the database answers and this node holds its lease.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "system",
    operation_id = "readyz",
    responses((status = 200, description = "It can.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn readyz(State(api): State<Api>) -> Result<&'static str, ApiError> {
    api.store().ping().await?;
    if api.has_lease() {
        Ok("ready\n")
    } else {
        Err(ApiError::LeaseLost)
    }
}

/// What is counted, for Prometheus
///
/// Open to whoever calls from the same machine; elsewhere it needs a key.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "system",
    operation_id = "metrics",
    responses((
        status = 200,
        description = "The Prometheus text format, 0.0.4.",
        body = String,
        content_type = "text/plain"
    ))
)]
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let metrics = api.metrics();
    // Before the reading, which would be seen at work.
    let Connections { used, idle } = api.store().connections();
    metrics.database.set_connections(used, idle);
    let asked = api.clone();
    // In a task of its own, which is brought to its end: its reading serves the next too.
    let refreshed = tokio::spawn(async move {
        asked
            .watch()
            .refresh(asked.store(), asked.metrics(), asked.clock())
            .await;
    });
    if tokio::time::timeout(PATIENCE, refreshed).await.is_err() {
        tracing::warn!("what waits could not be read in time for the metrics");
    }
    api.watch().show(metrics, api.now());
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], metrics.text()).into_response()
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "system",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object))
)]
pub(crate) async fn openapi() -> Response {
    json::answer(openapi::openapi_json())
}

/// This description, to be read
#[utoipa::path(
    get,
    path = "/docs",
    tag = "system",
    operation_id = "docs",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn docs() -> Response {
    (
        [(CONTENT_SECURITY_POLICY, docs_page::POLICY)],
        Html(docs_page::html()),
    )
        .into_response()
}

/// What a kind of problem means
#[utoipa::path(
    get,
    path = "/problems/{slug}",
    tag = "system",
    operation_id = "problem",
    params(("slug" = String, Path, description = "The end of a problem's `type`.")),
    responses((status = 200, description = "A text.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn problem(slug: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(slug) = slug.map_err(|_| ApiError::NoRoute)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.slug() == slug);
    let kind = kind.ok_or(ApiError::NoRoute)?;
    Ok(format!(
        "{} ({})\n\n{}\n",
        kind.title(),
        kind.status().as_u16(),
        kind.explanation()
    ))
}
