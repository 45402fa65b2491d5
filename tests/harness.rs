//! What the tests drive: a service in this process, with a clock of the test's own, or
//! a real one in a process of its own.

use std::{future::Future, time::Duration};

use serde_json::{Value, json};

mod in_process;
pub(crate) use in_process::{Ringback, open_policy};

mod process;
pub(crate) use process::{Server, ringback, run};

mod dns;
pub(crate) use dns::NameServer;

mod traffic;
pub(crate) use traffic::{Outcome, Plan, Post, Traffic, connect, server_address};

mod inbox;
pub(crate) use inbox::{Books, Inbox, Sending};

mod verdict;
pub(crate) use verdict::{all_come, deliveries_of, nothing_is_lost};

mod unsettled;
pub(crate) use unsettled::unsettled;

/// How long anything may take before a test gives up: generous, since machines are
/// shared, and never reached when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until no other test needs the machine for itself: those that measure, or that
/// load it heavily, take turns.
pub(crate) async fn undisturbed() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// An API to talk to: where it is, and a key for it.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

/// What an API answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.text
        );
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }
}

impl Api {
    #[expect(clippy::disallowed_methods, reason = "a test talks to its own service")]
    pub(crate) fn new(base: String, key: String) -> Self {
        // Done by every test; only the first can succeed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { http, base, key }
    }

    /// The same API with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Where it is, for other programs.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Its key, for other programs.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Sends a request with any body; `None` if nobody answered.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Option<Answer> {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        request = request.bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer {
            status,
            headers,
            text: response.text().await.ok()?,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_send("GET", path, &[], None)
            .await
            .expect("nobody answered")
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.try_send("DELETE", path, &[], None)
            .await
            .expect("nobody answered")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_raw(path, body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        let body = Some(body.to_string().into_bytes());
        self.try_send("PATCH", path, &[], body)
            .await
            .expect("nobody answered")
    }

    /// POSTs a body byte for byte.
    pub(crate) async fn post_raw(&self, path: &str, body: String) -> Answer {
        let body = Some(body.into_bytes());
        self.try_send("POST", path, &[], body)
            .await
            .expect("nobody answered")
    }

    /// Creates an application.
    pub(crate) async fn app(&self, slug: &str) {
        self.post("/v1/apps", json!({"slug": slug, "name": slug}))
            .await
            .ok();
    }

    /// Creates a subscription of an application; answers it, with its secret.
    ///
    /// - `fields`: what differs from a subscription to everything at `url`.
    pub(crate) async fn subscribe(&self, app: &str, url: &str, fields: Value) -> Subscription {
        let mut body = json!({"url": url});
        merge(&mut body, fields);
        let made = self
            .post(&format!("/v1/apps/{app}/subscriptions"), body)
            .await
            .ok();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Subscription {
            id: text("id"),
            secret: text("secret"),
        }
    }

    /// Emits an event; answers its id.
    pub(crate) async fn emit(&self, app: &str, event_type: &str, data: Value) -> String {
        let body = json!({"app": app, "type": event_type, "data": data});
        let accepted = self.post("/v1/events", body).await.ok();
        accepted["id"].as_str().unwrap().to_owned()
    }

    /// The one delivery of an event to a subscription.
    pub(crate) async fn delivery(&self, event: &str, subscription: &str) -> Value {
        let path = format!("/v1/deliveries?event={event}&subscription={subscription}");
        let mut list = self.get(&path).await.ok();
        assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list}");
        list["data"][0].take()
    }

    /// That delivery, once it is in `status`.
    pub(crate) async fn delivery_in(&self, status: &str, event: &str, subscription: &str) -> Value {
        eventually(&format!("the delivery is {status}"), async || {
            let delivery = self.delivery(event, subscription).await;
            if delivery["status"] == status {
                Ok(delivery)
            } else {
                Err(delivery)
            }
        })
        .await
    }

    /// All attempts of a delivery.
    pub(crate) async fn attempts(&self, delivery: &Value) -> Vec<Value> {
        let id = delivery["id"].as_str().unwrap();
        let mut list = self
            .get(&format!("/v1/deliveries/{id}/attempts"))
            .await
            .ok();
        serde_json::from_value(list["data"].take()).unwrap()
    }

    /// Every item of a list, page by page.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        let join = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = self
                .get(&format!("{path}{join}limit=200{cursor}"))
                .await
                .ok();
            items.extend(serde_json::from_value::<Vec<Value>>(page["data"].take()).unwrap());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

/// A subscription that a test created.
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Looks until `look` finds what it is looking for; the last finding is in the panic.
pub(crate) async fn eventually<T, E: std::fmt::Debug, F>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if tokio::time::Instant::now() > deadline => {
                panic!("gave up waiting until {what}; last seen: {seen:?}")
            }
            // Another process has to get on: there is nothing here to be woken by.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn merge(body: &mut Value, fields: Value) {
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            body[name] = value;
        }
    }
}
