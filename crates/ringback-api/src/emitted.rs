//! Accepts what was emitted inside the database: by producers in their own transactions,
//! and by the store itself.
//!
//! What stands there is committed already, so it is accepted whatever else there is to
//! do. Accepting it deletes its row in the same commit: a process that dies before has
//! done nothing, and one that dies after leaves nothing to do again. From there on it is
//! an event like any other.
//!
//! One batch after another, each matched at one version of its application, so events
//! with the same ordering key are accepted in the order in which they were written.
//!
//! What can never be accepted is said in the log, once, and dropped. What the database
//! refuses is left where it is, and passed over for a while.

mod cursor;

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_metrics::{RefusedBecause, Statement};
use ringback_model::{AppId, EventId, EventType};
use ringback_store::{AcceptItem, AcceptOutcome, AppRef, EmittedId, EmittedRow, Hint, NewEvent};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use self::cursor::Cursor;
use crate::{
    Api,
    batcher::NotAccepted,
    error::ApiError,
    matching::Matcher,
    routes::events::{draft::Draft, intake::trace_context},
};

/// The most to accept in one commit.
const BATCH: u32 = 256;
/// How soon to look again when something was found …
const SOON: Duration = Duration::from_millis(20);
/// … and when the database did not answer.
const LATER: Duration = Duration::from_secs(1);
/// How often changed subscriptions are read anew before the next look.
const TRIES: usize = 5;
/// How long what the database refused is passed over, and the most of that.
const PASSED_OVER: TimeDelta = TimeDelta::minutes(10);
const MOST_PASSED_OVER: usize = 1000;

impl Api {
    /// Accepts what is emitted, until `shutdown`. What is being accepted then is brought to
    /// its end.
    pub(crate) async fn accept_emitted(self, shutdown: CancellationToken) {
        let mut hints = self.store().listen();
        let mut pick_up = PickUp::default();
        while !shutdown.is_cancelled() {
            let wait = pick_up.look(&self).await;
            if wait.is_zero() {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.clock().sleep(wait) => {}
                () = emitted(&mut hints) => {}
            }
        }
    }
}

/// Returns when something was emitted, as far as hints tell.
async fn emitted(hints: &mut broadcast::Receiver<Hint>) {
    loop {
        match hints.recv().await {
            Ok(Hint::Emitted | Hint::Everything) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // There will be no more.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What one process remembers of its looks.
#[derive(Default)]
struct PickUp {
    cursor: Cursor,
    /// Rows that the database refused, and until when they are passed over.
    passed_over: HashMap<EmittedId, DateTime<Utc>>,
    /// How long to wait after a look that finds nothing.
    wait: Duration,
    is_failing: bool,
}

/// A row that is not to be accepted, and why.
struct Drop<'r> {
    row: &'r EmittedRow,
    why: Why,
}

enum Why {
    /// It is accepted already.
    Duplicate,
    /// Another event came before under its id.
    Conflict,
    /// Like `/type bad_event_type`.
    Unfit(String),
}

/// What became of a batch.
#[derive(Default)]
struct Sorted<'r> {
    drop: Vec<Drop<'r>>,
    refused: Vec<EmittedId>,
    /// Matched with what was subscribed before.
    stale: Vec<&'r EmittedRow>,
}

impl PickUp {
    /// Accepts what there is; answers how long to wait before the next look.
    async fn look(&mut self, api: &Api) -> Duration {
        match self.try_look(api).await {
            Ok(wait) => {
                self.is_failing = false;
                wait
            }
            Err(error) => {
                if !self.is_failing {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "could not accept what was emitted; trying again"
                    );
                }
                self.is_failing = true;
                LATER
            }
        }
    }

    async fn try_look(&mut self, api: &Api) -> Result<Duration, ApiError> {
        let now = api.now();
        let after = self.cursor.begin(now);
        self.passed_over.retain(|_, until| *until > now);
        let except: Vec<EmittedId> = self.passed_over.keys().copied().collect();
        let page = api.store().emitted(after, &except, BATCH).await;
        let took = (api.now() - now).to_std().unwrap_or_default();
        api.metrics().database.ran(Statement::Emitted, took);
        let page = page?;
        let Some(last) = page.rows.last() else {
            self.wait = (self.wait * 2).clamp(SOON, page.ask_again.max(SOON));
            return Ok(self.wait);
        };
        self.accept(api, &page.rows, now).await?;
        self.cursor.end(last.id, page.has_more, now);
        self.wait = SOON;
        Ok(if page.has_more { Duration::ZERO } else { SOON })
    }

    async fn accept(
        &mut self,
        api: &Api,
        rows: &[EmittedRow],
        now: DateTime<Utc>,
    ) -> Result<(), ApiError> {
        let mut open: Vec<&EmittedRow> = rows.iter().collect();
        for _ in 0..TRIES {
            if open.is_empty() {
                break;
            }
            let sorted = accept_once(api, &open, now).await?;
            for row in sorted.refused {
                if self.passed_over.len() >= MOST_PASSED_OVER {
                    self.passed_over.clear();
                }
                self.passed_over.insert(row, now + PASSED_OVER);
            }
            self.drop(api, &sorted.drop).await?;
            open = sorted.stale;
        }
        Ok(())
    }

    async fn drop(&mut self, api: &Api, drops: &[Drop<'_>]) -> Result<(), ApiError> {
        if drops.is_empty() {
            return Ok(());
        }
        let ids: Vec<EmittedId> = drops.iter().map(|drop| drop.row.id).collect();
        let dropped = api.store().discard_emitted(&ids).await?;
        for Drop { row, why } in drops {
            // Whoever deleted it says so.
            if !dropped.contains(&row.id) {
                continue;
            }
            match why {
                Why::Duplicate => {}
                Why::Conflict => say(row, "another event came before under its id"),
                Why::Unfit(why) => {
                    say(row, why);
                    let why = RefusedBecause::Unfit;
                    api.metrics().accepting.refused(1, why);
                }
            }
        }
        Ok(())
    }
}

fn say(row: &EmittedRow, why: &str) {
    let event_type = row.event_type.parse::<EventType>().ok();
    let is_system = event_type.as_ref().is_some_and(EventType::is_system);
    let event_type = event_type.as_ref().map(EventType::as_str);
    if is_system {
        // Its application was deleted right after: nobody is left to hear of it.
        tracing::info!(
            app.id = %row.app, event.r#type = event_type, why,
            "an event of Ringback's own reaches nobody"
        );
    } else {
        tracing::error!(
            app.id = %row.app, event.r#type = event_type, emitted.id = row.id.get(), why,
            "an emitted event can never be accepted: it is dropped"
        );
    }
}

/// Has rows accepted in one commit, those that can be.
async fn accept_once<'r>(
    api: &Api,
    rows: &[&'r EmittedRow],
    now: DateTime<Utc>,
) -> Result<Sorted<'r>, ApiError> {
    let mut sorted = Sorted::default();
    let (mut items, mut origins) = (Vec::new(), Vec::new());
    let mut versions = HashMap::new();
    for &row in rows {
        let draft = Draft::emitted(row, now).map_err(|error| reason(&error));
        let matcher = matcher_of(api, row.app).await?;
        let matcher = matcher.ok_or_else(|| "the application is deleted".to_owned());
        match draft.and_then(|draft| Ok((draft, matcher?))) {
            Ok((draft, matcher)) => {
                let (item, version) = item(row, draft, &matcher);
                if *versions.entry(row.app).or_insert(version) != version {
                    // It changed in between. What is stale of an application has to be so
                    // as a whole, or the rest would overtake it.
                    sorted.stale = rows.to_vec();
                    sorted.drop.clear();
                    return Ok(sorted);
                }
                items.push(item);
                origins.push((row, matcher, version));
            }
            Err(why) => {
                let why = Why::Unfit(why);
                sorted.drop.push(Drop { row, why });
            }
        }
    }
    if items.is_empty() {
        return Ok(sorted);
    }
    let outcomes = api.flusher().accept(items).await;
    for ((row, matcher, version), outcome) in origins.into_iter().zip(outcomes) {
        match outcome {
            Ok(AcceptOutcome::Accepted(accepted)) => {
                // A duplicate leaves its row.
                if accepted.iter().any(|one| one.duplicate) {
                    let why = Why::Duplicate;
                    sorted.drop.push(Drop { row, why });
                }
            }
            Ok(AcceptOutcome::Stale) => {
                matcher.outdated(version);
                sorted.stale.push(row);
            }
            Ok(AcceptOutcome::IdReused(_)) => {
                let why = Why::Conflict;
                sorted.drop.push(Drop { row, why });
            }
            // Somebody else accepts it, or has.
            Ok(AcceptOutcome::Taken) => {}
            // The last two are for requests alone.
            Err(NotAccepted::Refused)
            | Ok(AcceptOutcome::Replayed(_) | AcceptOutcome::KeyReused) => {
                tracing::error!(
                    app.id = %row.app, emitted.id = row.id.get(),
                    "an emitted event was refused by the database: it stays there"
                );
                sorted.refused.push(row.id);
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(sorted)
}

/// `None` if there is no such application.
async fn matcher_of(api: &Api, app: AppId) -> Result<Option<Arc<Matcher>>, ApiError> {
    let app = AppRef::Id(app);
    match api.matching().app(api.store(), &app, api.now()).await {
        Ok(matcher) => Ok(Some(matcher)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is to be accepted, and the version that it was matched at.
fn item(row: &EmittedRow, draft: Draft, matcher: &Matcher) -> (AcceptItem, i64) {
    let matched = matcher.matched(&draft.fields());
    let event = NewEvent {
        // Given just before it is written.
        id: EventId::MIN,
        app: row.app,
        app_version: matched.version,
        external: draft.external(row.app),
        deliveries: matched.in_order(draft.ordering_key.as_deref()),
        event_type: draft.event_type,
        data: draft.data,
        labels: draft.labels,
        traceparent: row.traceparent.as_deref().and_then(trace_context),
        ordering_key: draft.ordering_key,
        deliver_at: draft.deliver_at,
    };
    let item = AcceptItem {
        events: vec![event],
        idempotency: None,
        emitted: Some(row.id),
    };
    (item, matched.version)
}

/// What is wrong with a row, without what is in it.
fn reason(error: &ApiError) -> String {
    let problem = error.problem();
    let fault = |fault: &crate::problem::Fault| format!("{} {}", fault.pointer, fault.code);
    match &problem.errors[..] {
        [] => problem.code.to_owned(),
        faults => faults.iter().map(fault).collect::<Vec<_>>().join(", "),
    }
}
