//! Receivers without sockets: they note what arrives and answer as told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use ringback_egress::{Answer, Exchange, Failure, Post, Timings};
use ringback_model::{AttemptError, EventId, TargetPolicy};
use ringback_store::Clock;
use tokio::sync::watch;

use crate::{send::Transport, tests::store::WatchedStore};

/// What a receiver does.
#[derive(Clone, Copy)]
pub(crate) enum Reaction {
    Answers(u16),
    /// With a status and `Retry-After`, in seconds.
    AsksToWait(u16, u64),
    Resets,
    Panics,
}

type React = dyn Fn(&Request) -> Reaction + Send + Sync;

#[derive(Clone)]
pub(crate) struct Receiver(Arc<Inner>);

struct Inner {
    clock: Clock,
    store: Arc<WatchedStore>,
    policy: TargetPolicy,
    react: Mutex<Arc<React>>,
    log: Mutex<Vec<Request>>,
    /// Nothing is answered meanwhile.
    held: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: DateTime<Utc>,
    pub(crate) event: EventId,
    pub(crate) attempt: u16,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Receiver {
    pub(crate) fn new(clock: Clock, store: Arc<WatchedStore>) -> Self {
        Self(Arc::new(Inner {
            clock,
            store,
            policy: TargetPolicy::default(),
            react: Mutex::new(Arc::new(|_| Reaction::Answers(204))),
            log: Mutex::default(),
            held: watch::Sender::new(false),
        }))
    }

    pub(crate) fn react(&self, react: impl Fn(&Request) -> Reaction + Send + Sync + 'static) {
        *self.0.react.lock().unwrap() = Arc::new(react);
    }

    pub(crate) fn answers(&self, status: u16) {
        self.react(move |_| Reaction::Answers(status));
    }

    pub(crate) fn hold(&self, held: bool) {
        self.0.held.send_replace(held);
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.0.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.log.lock().unwrap().len()
    }

    /// How often each event was sent to each path.
    pub(crate) fn tally(&self) -> BTreeMap<(EventId, String), usize> {
        let mut tally = BTreeMap::new();
        for request in self.log() {
            *tally.entry((request.event, request.path)).or_default() += 1;
        }
        tally
    }
}

impl Transport for Receiver {
    fn policy(&self) -> &TargetPolicy {
        &self.0.policy
    }

    async fn post(&self, post: Post) -> Exchange {
        let header = |name: &str| post.headers[name].to_str().unwrap();
        let request = Request {
            at: self.0.clock.now(),
            event: header("webhook-id").parse().unwrap(),
            attempt: header("ringback-attempt").parse().unwrap(),
            path: post.target.path_and_query().to_owned(),
            body: String::from_utf8(post.body.to_vec()).unwrap(),
            headers: post.headers.clone(),
        };
        self.0.log.lock().unwrap().push(request.clone());
        self.0.store.bump();
        let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        let react = Arc::clone(&self.0.react.lock().unwrap());
        let answer = |status, headers| Answer {
            status,
            headers,
            body: "answer".into(),
            truncated: false,
        };
        let result = match react(&request) {
            Reaction::Answers(status) => Ok(answer(status, Vec::new())),
            Reaction::AsksToWait(status, wait_s) => {
                let value = wait_s.to_string().into_bytes();
                Ok(answer(status, vec![("retry-after".to_owned(), value)]))
            }
            Reaction::Resets => Err(Failure {
                error: AttemptError::Reset,
                detail: "reset".to_owned(),
            }),
            Reaction::Panics => panic!("a bug in the transport"),
        };
        Exchange {
            timings: Timings::default(),
            remote_addr: None,
            result,
        }
    }
}
