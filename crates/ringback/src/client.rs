//! The HTTP client that commands talk to a running service with.

use std::{fs, time::Duration};

use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Where `ringback dev` writes how to reach it.
pub const DEV_ENV: &str = ".ringback/dev.env";

/// Which service to talk to. What is not given is read from `.ringback/dev.env`, which
/// `ringback dev` writes.
#[derive(Args, Clone)]
pub struct ClientArgs {
    /// The service's URL
    #[arg(long, env = "RINGBACK_SERVER", global = true, value_name = "URL")]
    server: Option<String>,

    /// An API key
    #[arg(
        long,
        env = "RINGBACK_KEY",
        global = true,
        hide_env_values = true,
        value_name = "KEY"
    )]
    key: Option<String>,
}

impl ClientArgs {
    /// Names a service by its URL and a key for it.
    pub fn new(server: &str, key: &str) -> Self {
        Self {
            server: Some(server.to_owned()),
            key: Some(key.to_owned()),
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused: what its problem document says.
    #[error("{title}: {detail}{errors} (request {request_id})")]
    Problem {
        /// The HTTP status.
        status: u16,
        /// What kind of problem.
        title: String,
        /// This problem.
        detail: String,
        /// The fields at fault, a line each.
        errors: String,
        /// For finding it in the service's log.
        request_id: String,
    },
    /// Nobody answered.
    #[error("cannot reach {server}: {cause}. Is the service running?")]
    Unreachable {
        /// Where.
        server: String,
        /// Why.
        cause: String,
    },
    /// No key was given.
    #[error("no API key: give --key or RINGBACK_KEY, or run where `ringback dev` was started")]
    NoKey,
    /// The answer is none of ours.
    #[error("the answer is not understood: {0}")]
    NotUnderstood(String),
}

/// A client of one service.
pub struct Client {
    http: reqwest::Client,
    server: String,
    key: String,
}

impl Client {
    /// A client for the service that `args` name.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoKey`] if no key is to be found.
    #[expect(
        clippy::disallowed_methods,
        reason = "the address is the operator's own"
    )]
    pub fn new(args: &ClientArgs) -> anyhow::Result<Self> {
        let dev = fs::read_to_string(DEV_ENV).unwrap_or_default();
        let from_dev = |name: &str| {
            let line = dev
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        let server = args.server.clone().or_else(|| from_dev("RINGBACK_SERVER"));
        let key = args.key.clone().or_else(|| from_dev("RINGBACK_KEY"));
        Ok(Self {
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
            server: server.unwrap_or_else(|| "http://127.0.0.1:7464".to_owned()),
            key: key.ok_or(ClientError::NoKey)?,
        })
    }

    /// GETs `path`, which begins with `/v1`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, None).await
    }

    /// POSTs a body to `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// PATCHes `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::PATCH, path, Some(body.to_string())).await
    }

    /// POSTs a body that is JSON already, byte for byte.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn post_raw(&self, path: &str, body: String) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// DELETEs `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, None).await.map(|_| ())
    }

    /// GETs the items of a list, page by page, `limit` at most.
    ///
    /// - `query`: names and values; empty values are left out.
    ///
    /// # Errors
    ///
    /// [`ClientError`] for whatever is no success.
    pub async fn list(
        &self,
        path: &str,
        query: &[(&str, &str)],
        limit: usize,
    ) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        while items.len() < limit {
            let page_size = (limit - items.len()).min(200).to_string();
            let mut url = reqwest::Url::parse(&format!("{}{path}", self.server))
                .map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
            let mut pairs = vec![("limit", page_size.as_str()), ("cursor", cursor.as_str())];
            pairs.extend_from_slice(query);
            url.query_pairs_mut()
                .extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
            let request = self.http.get(url);
            let mut page = self.answer(request).await?;
            match page["data"].take() {
                Value::Array(more) => items.extend(more),
                other => return Err(ClientError::NotUnderstood(other.to_string())),
            }
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        Ok(items)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Value, ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.server));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        self.answer(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            server: self.server.clone(),
            cause: root_cause(&error),
        };
        let response = request
            .bearer_auth(&self.key)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let body: Value =
            serde_json::from_str(&text).map_err(|_| ClientError::NotUnderstood(text))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(problem(status, &body))
        }
    }
}

fn problem(status: StatusCode, body: &Value) -> ClientError {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let errors = body["errors"].as_array().into_iter().flatten();
    let line = |error: &Value| {
        let [pointer, detail] =
            ["pointer", "detail"].map(|name| error[name].as_str().unwrap_or(""));
        format!("\n  {pointer}: {detail}")
    };
    ClientError::Problem {
        status: status.as_u16(),
        title: text("title"),
        detail: text("detail"),
        errors: errors.map(line).collect(),
        request_id: text("request_id"),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
