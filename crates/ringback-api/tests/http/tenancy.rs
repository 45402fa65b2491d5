//! Who may see what: a matrix over every route that the API describes.

use http::{Method, StatusCode};
use ringback_model::Scope;
use serde_json::{Value, json};

use crate::service::{Answer, Service};

/// A route, from the description of the API (which a unit test holds against the
/// router).
struct Route {
    method: Method,
    path: String,
    scope: Option<Scope>,
}

async fn routes(service: &Service) -> Vec<Route> {
    let document = service.get("/openapi.json").send().await.json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["key"][0].as_str();
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                scope: scope.map(|scope| scope.parse().unwrap()),
            });
        }
    }
    assert!(routes.len() >= 31);
    routes
}

/// Things to be named in paths.
struct Named {
    app: String,
    sub: String,
    evt: String,
    dlv: String,
    key: String,
}

impl Named {
    async fn in_app(service: &Service, slug: &str) -> Self {
        let app = service.app(slug).await;
        let sub = service.subscription(&app).await;
        let evt = service.event(&app).await;
        let dlv = format!("dlv_{}{}", &evt[4..], &sub[4..]);
        let key = json!({ "name": "k", "scopes": ["replay"], "app": app });
        let key = service
            .post("/v1/keys", key)
            .send()
            .await
            .expect(StatusCode::CREATED);
        Self {
            app,
            sub,
            evt,
            dlv,
            key: key.text("id"),
        }
    }

    /// Of the right form, and nobody's.
    fn nothing() -> Self {
        let id = "0000000000077";
        Self {
            app: format!("app_{id}"),
            sub: format!("sub_{id}"),
            evt: format!("evt_{id}"),
            dlv: format!("dlv_{id}{id}"),
            key: format!("key_{id}"),
        }
    }

    fn fill(&self, path: &str) -> String {
        path.replace("{app}", &self.app)
            .replace("{sub}", &self.sub)
            .replace("{evt}", &self.evt)
            .replace("{dlv}", &self.dlv)
            .replace("{key}", &self.key)
    }

    /// A body that the route takes.
    fn body(&self, route: &Route) -> Option<Value> {
        let event = json!({ "app": self.app, "type": "a", "data": 1 });
        match (route.method.as_str(), &*route.path) {
            ("POST", "/v1/apps") => Some(json!({ "slug": "fresh" })),
            ("POST", "/v1/apps/{app}/subscriptions") => {
                Some(json!({ "url": "https://r.example/" }))
            }
            ("POST", "/v1/events") => Some(event),
            ("POST", "/v1/events/batch") => Some(json!({ "events": [event] })),
            ("POST", "/v1/keys") => {
                Some(json!({ "name": "k", "scopes": ["replay"], "app": self.app }))
            }
            ("PATCH", _) => Some(json!({})),
            _ => None,
        }
    }

    async fn call(&self, service: &Service, route: &Route, key: &str) -> Answer {
        let call = service
            .call(route.method.clone(), &self.fill(&route.path))
            .key(key);
        match self.body(route) {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        }
    }
}

#[tokio::test]
async fn every_route_needs_a_key_with_its_scope() {
    let service = Service::new().await;
    let named = Named::in_app(&service, "billing").await;
    for route in routes(&service).await {
        let Some(scope) = route.scope else { continue };
        let at = format!("{} {}", route.method, route.path);
        let none = service.call(route.method.clone(), &named.fill(&route.path));
        let refused = none.without("authorization").send().await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{at}");
        assert!(refused.headers.contains_key("www-authenticate"), "{at}");
        assert_eq!(
            named.call(&service, &route, "rbk_x").await.status,
            401,
            "{at}"
        );

        let others: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|other| *other != scope && *other != Scope::Admin)
            .collect();
        let key = service.key(&others, None).await;
        named
            .call(&service, &route, &key)
            .await
            .problem(403, "missing_scope");
    }
}

#[tokio::test]
async fn a_key_with_just_the_scope_is_let_in() {
    for route in routes(&Service::new().await).await {
        let Some(scope) = route.scope else { continue };
        let service = Service::new().await;
        let named = Named::in_app(&service, "billing").await;
        let key = service.key(&[scope], None).await;
        let answer = named.call(&service, &route, &key).await;
        // A delivery that was just made can be replayed and cancelled; nothing conflicts.
        assert!(
            answer.status.is_success(),
            "{} {}: {answer:?}",
            route.method,
            route.path
        );
    }
}

#[tokio::test]
async fn what_belongs_to_another_application_answers_like_what_does_not_exist() {
    let service = Service::new().await;
    let foreign = Named::in_app(&service, "billing").await;
    let own = Named::in_app(&service, "shipping").await;
    let bound = service
        .key(&[Scope::Admin], Some(own.app.parse().unwrap()))
        .await;
    for route in routes(&service).await {
        if route.scope.is_none() {
            continue;
        }
        let at = format!("{} {}", route.method, route.path);
        let theirs = foreign.call(&service, &route, &bound).await;
        let nobodys = Named::nothing().call(&service, &route, &bound).await;
        assert_eq!(theirs.anonymous(), nobodys.anonymous(), "{at}");
        if route.path.contains('{') || route.path.contains("events") && route.method != "GET" {
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{at}");
        }
    }
}

#[tokio::test]
async fn a_bound_keys_lists_hold_only_its_own() {
    let service = Service::new().await;
    let foreign = Named::in_app(&service, "billing").await;
    let own = Named::in_app(&service, "shipping").await;
    let bound = service
        .key(&[Scope::Admin], Some(own.app.parse().unwrap()))
        .await;
    let filters = [
        String::new(),
        format!("?app={}", foreign.app),
        format!("?subscription={}", foreign.sub),
        format!("?event={}", foreign.evt),
    ];
    for (path, own_id) in [
        ("/v1/apps", &own.app),
        ("/v1/keys", &own.key),
        ("/v1/events", &own.evt),
        ("/v1/deliveries", &own.dlv),
    ] {
        let listed = service
            .get(path)
            .key(&bound)
            .send()
            .await
            .expect(StatusCode::OK);
        let text = String::from_utf8_lossy(&listed.body).into_owned();
        assert!(text.contains(own_id), "{path}: {text}");
        for id in [&foreign.app, &foreign.sub, &foreign.evt, &foreign.key] {
            assert!(!text.contains(id), "{path}: {text}");
        }
    }
    for filter in &filters[1..] {
        let listed = service
            .get(&format!("/v1/deliveries{filter}"))
            .key(&bound)
            .send()
            .await;
        assert_eq!(
            listed.expect(StatusCode::OK).json()["data"],
            json!([]),
            "{filter}"
        );
    }
    // A slug has to be one that the key sees.
    service
        .get("/v1/deliveries?app=billing")
        .key(&bound)
        .send()
        .await
        .problem(404, "not_found");
    service
        .get("/v1/deliveries?app=nobody")
        .key(&bound)
        .send()
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_bound_key_makes_no_applications_and_only_keys_like_itself() {
    let service = Service::new().await;
    let own = service.app("shipping").await;
    let bound = service
        .key(&[Scope::Admin], Some(own.parse().unwrap()))
        .await;
    let refused = service
        .post("/v1/apps", json!({ "slug": "another" }))
        .key(&bound);
    refused.send().await.problem(403, "bound_key");
    let made = service
        .post("/v1/keys", json!({ "name": "k", "scopes": ["admin"] }))
        .key(&bound);
    assert_eq!(
        made.send().await.expect(StatusCode::CREATED).json()["app"],
        own
    );
}
