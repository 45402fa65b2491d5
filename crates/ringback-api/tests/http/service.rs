//! A service to be tested, and requests to it in a line each.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use ringback_api::{Api, ApiConfig, Peer};
use ringback_model::{AppId, KeyId, Lane, Quotas, Retention, Scope};
use ringback_sqlite::{SqliteOptions, SqliteStore};
use ringback_store::{Clock, Lanes, MasterKey, Membership, NewKey, NodeLease, Registry, Vault};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) struct Service {
    pub(crate) api: Api,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) clock: Clock,
    /// May do everything.
    pub(crate) admin: String,
    router: Router,
    _folder: tempfile::TempDir,
}

pub(crate) fn start() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

impl Service {
    pub(crate) async fn new() -> Self {
        Self::with_quotas(Quotas::default()).await
    }

    /// - `quotas`: of applications that have none of their own.
    pub(crate) async fn with_quotas(quotas: Quotas) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            path: folder.path().join("ringback.db"),
            readers: 2,
            retention: Retention::default(),
        };
        let store = Arc::new(SqliteStore::open(options).await.unwrap());
        store.migrate().await.unwrap();
        let clock = Clock::manual(start());
        let membership = Arc::new(
            Membership::join(&*store, "test", true, clock.clone())
                .await
                .unwrap(),
        );
        let vault = Arc::new(Vault::new(&MasterKey::generate().unwrap(), &[]));
        let api = Api::new(
            Arc::clone(&store) as _,
            vault,
            Arc::clone(&membership),
            None,
            ApiConfig {
                quotas,
                ..ApiConfig::default()
            },
        );
        let router = api.router();
        let admin = String::new();
        let mut service = Self {
            api,
            store,
            membership,
            clock,
            admin,
            router,
            _folder: folder,
        };
        service.admin = service.key(&[Scope::Admin], None).await;
        service
    }

    /// A fresh API key.
    pub(crate) async fn key(&self, scopes: &[Scope], app: Option<AppId>) -> String {
        let (id, now) = self.membership.next_id().unwrap();
        let mut random = [0; 32];
        random[..8].copy_from_slice(&id.to_be_bytes());
        let (key, hash) = ringback_api::new_api_key(random);
        let scopes = scopes.iter().copied().collect();
        let new = NewKey {
            id: KeyId::new(id),
            hash,
            name: "test".to_owned(),
            scopes,
            app,
        };
        self.store.create_key(new, now).await.unwrap();
        key
    }

    /// Lets time pass, and keeps the node's lease.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.membership.beat(&*self.store).await.unwrap();
    }

    /// The lease, with all lanes.
    pub(crate) async fn lease(&self) -> NodeLease {
        let lease = self.membership.lease().unwrap();
        let lanes: Vec<_> = Lane::all().collect();
        self.store
            .take(&lease, &lanes, self.clock.now())
            .await
            .unwrap();
        lease
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Call<'_> {
        self.call(Method::POST, path).json(&body)
    }

    pub(crate) fn patch(&self, path: &str, body: Value) -> Call<'_> {
        self.call(Method::PATCH, path).json(&body)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        let call = Call {
            router: &self.router,
            request,
        };
        call.header("authorization", &format!("Bearer {}", self.admin))
    }

    /// Creates an application; answers its id.
    pub(crate) async fn app(&self, slug: &str) -> String {
        let created = self.post("/v1/apps", json!({ "slug": slug })).send().await;
        created.expect(StatusCode::CREATED).text("id")
    }

    /// Creates a subscription; answers its id.
    pub(crate) async fn subscription(&self, app: &str) -> String {
        let path = format!("/v1/apps/{app}/subscriptions");
        let created = self.post(
            &path,
            json!({ "url": "https://r.example/hooks?sig=canary" }),
        );
        created.send().await.expect(StatusCode::CREATED).text("id")
    }

    /// Emits an event; answers its id.
    pub(crate) async fn event(&self, app: &str) -> String {
        let body = json!({ "app": app, "type": "order.paid", "data": { "total": 1 } });
        self.post("/v1/events", body)
            .send()
            .await
            .expect(StatusCode::ACCEPTED)
            .text("id")
    }
}

pub(crate) struct Call<'a> {
    router: &'a Router,
    request: Request<Bytes>,
}

impl Call<'_> {
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.request.headers_mut().remove(name);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().unwrap();
        self.request
            .headers_mut()
            .insert(name, value.parse().unwrap());
        self
    }

    /// As if its connection came from this address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        let peer = Peer(address.parse().unwrap());
        self.request.extensions_mut().insert(peer);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = body.into();
        self.header("content-type", "application/json")
    }

    pub(crate) async fn send(self) -> Answer {
        let request = self.request.map(Body::from);
        let (parts, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A text in its body.
    pub(crate) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Checks that it is a problem document of this status and code; answers it.
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        let problem = self.expect(StatusCode::from_u16(status).unwrap());
        assert_eq!(problem.header("content-type"), "application/problem+json");
        let document = problem.json();
        assert_eq!(document["code"], code, "{document}");
        assert_eq!(document["status"], status);
        assert_eq!(document["request_id"], problem.header("x-request-id"));
        document
    }

    /// Its body without what differs between any two requests.
    pub(crate) fn anonymous(&self) -> (StatusCode, String) {
        let id = self.header("x-request-id");
        (
            self.status,
            String::from_utf8_lossy(&self.body).replace(id, "…"),
        )
    }
}

/// The names of an object's members, sorted.
pub(crate) fn names(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}
