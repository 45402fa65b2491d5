//! The table of routes: what each takes, and what a key needs for it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use ringback_metrics::RouteDurations;
use ringback_model::Scope;

use crate::{Api, error::ApiError, idempotency, peer, request};

/// Collects routes. Each is guarded as its line says before its handler runs.
#[derive(Default)]
pub(crate) struct Routes {
    table: Vec<Line>,
    mounts: Vec<Mount>,
}

/// A route, as far as others have to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// What a key needs; `None` if no key is needed.
    pub(crate) scope: Option<Scope>,
}

/// Adds a route to a router.
type Mount = Box<dyn FnOnce(Router<Api>, &Api) -> Router<Api>>;

/// What is asked of a request before its handler runs.
#[derive(Clone, Copy)]
struct Guard {
    scope: Option<Scope>,
    takes_query: bool,
    /// Who calls from this machine needs no key.
    open_here: bool,
}

impl Routes {
    /// Needs no key.
    pub(crate) fn open<H: Handler<T, Api>, T: 'static>(self, path: &'static str, h: H) -> Self {
        let guard = Guard {
            scope: None,
            takes_query: false,
            open_here: false,
        };
        self.add("GET", path, guard, move |_| on(MethodFilter::GET, h))
    }

    /// Needs no key on this machine; elsewhere one with `scope`, of no application.
    pub(crate) fn local<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        let guard = Guard {
            open_here: true,
            ..needs(scope)
        };
        self.add("GET", path, guard, move |_| on(MethodFilter::GET, handler))
    }

    /// Shows one thing.
    pub(crate) fn get<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        self.add("GET", path, needs(scope), move |_| {
            on(MethodFilter::GET, handler)
        })
    }

    /// Shows a list: the only kind that takes a query.
    pub(crate) fn list<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        let guard = Guard {
            takes_query: true,
            ..needs(scope)
        };
        self.add("GET", path, guard, move |_| on(MethodFilter::GET, handler))
    }

    /// Does something, once per `Idempotency-Key`.
    pub(crate) fn post<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        self.add("POST", path, needs(scope), move |api| {
            let once = from_fn_with_state(api.clone(), idempotency::remember);
            on(MethodFilter::POST, handler).layer(once)
        })
    }

    /// Takes events, and sees to their `Idempotency-Key` itself.
    pub(crate) fn emit<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        self.add("POST", path, needs(scope), move |_| {
            on(MethodFilter::POST, handler)
        })
    }

    /// Changes one thing.
    pub(crate) fn patch<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        self.add("PATCH", path, needs(scope), move |_| {
            on(MethodFilter::PATCH, handler)
        })
    }

    /// Deletes one thing.
    pub(crate) fn delete<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        scope: Scope,
        handler: H,
    ) -> Self {
        self.add("DELETE", path, needs(scope), move |_| {
            on(MethodFilter::DELETE, handler)
        })
    }

    /// What was collected.
    pub(crate) fn table(&self) -> &[Line] {
        &self.table
    }

    /// The router of all these, and what answers everything else.
    pub(crate) fn finish(self, api: &Api) -> Router {
        let router = self
            .mounts
            .into_iter()
            .fold(Router::new(), |router, mount| mount(router, api));
        router
            .fallback(async |State(api)| elsewhere(&api, ApiError::NoRoute))
            .method_not_allowed_fallback(async |State(api)| {
                elsewhere(&api, ApiError::MethodNotAllowed)
            })
            .layer(from_fn(request::around))
            .with_state(api.clone())
    }

    fn add(
        mut self,
        method: &'static str,
        path: &'static str,
        guard: Guard,
        route: impl FnOnce(&Api) -> MethodRouter<Api> + 'static,
    ) -> Self {
        self.table.push(Line {
            method,
            path,
            scope: guard.scope,
        });
        self.mounts.push(Box::new(move |router, api| {
            let durations = Arc::new(api.metrics().http.route(method, path));
            let guarded = from_fn_with_state((api.clone(), guard, durations), self::around);
            router.route(path, route(api).route_layer(guarded))
        }));
        self
    }
}

fn needs(scope: Scope) -> Guard {
    Guard {
        scope: Some(scope),
        takes_query: false,
        open_here: false,
    }
}

/// Guards a route, and counts how long it takes.
async fn around(
    State((api, guard, durations)): State<(Api, Guard, Arc<RouteDurations>)>,
    request: Request,
    next: Next,
) -> Response {
    let began = api.now();
    let response = self::guard(&api, guard, request, next)
        .await
        .into_response();
    let took = (api.now() - began).to_std().unwrap_or_default();
    durations.answered(response.status().as_u16(), took);
    response
}

/// Refuses, and counts, what no route takes.
fn elsewhere(api: &Api, error: ApiError) -> Response {
    let response = error.into_response();
    let durations = api.metrics().http.elsewhere();
    durations.answered(response.status().as_u16(), Duration::ZERO);
    response
}

async fn guard(
    api: &Api,
    guard: Guard,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let needed = guard
        .scope
        .filter(|_| !(guard.open_here && peer::is_here(&request)));
    if let Some(scope) = needed {
        let caller = api
            .keys()
            .caller(api.store(), request.headers(), api.now())
            .await?;
        if !caller.may(scope) {
            return Err(ApiError::MissingScope(scope));
        }
        // What is open on this machine is of the whole service.
        if guard.open_here && caller.bound_to().is_some() {
            return Err(ApiError::BoundKey);
        }
        request.extensions_mut().insert(caller);
    }
    if !guard.takes_query
        && let Some(query) = request.uri().query()
    {
        check_no_query(query)?;
    }
    Ok(next.run(request).await)
}

fn check_no_query(query: &str) -> Result<(), ApiError> {
    if query.is_empty() {
        return Ok(());
    }
    let detail = "this path takes no query parameters".to_owned();
    Err(ApiError::Malformed {
        code: "unknown_parameter",
        detail,
    })
}
