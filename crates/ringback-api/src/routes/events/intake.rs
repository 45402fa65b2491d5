//! From checked events to accepted ones: match, hand in, and again if a subscription
//! changed meanwhile.

use std::{collections::HashMap, sync::Arc};

use http::HeaderMap;
use ringback_metrics::RefusedBecause;
use ringback_model::{EventFields, EventId};
use ringback_store::{AcceptItem, AcceptOutcome, Accepted, IdempotencyKey, NewEvent};
use serde::Serialize;
use utoipa::ToSchema;

use super::draft::{Draft, no_such_app};
use crate::{
    Api, auth::Caller, batcher::NotAccepted, error::ApiError, matching::Matcher,
    quotas::NotAdmitted,
};

/// How often changed subscriptions are read anew before the caller is asked to wait.
const TRIES: u32 = 5;

/// An event that is on disk.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedEvent {
    #[schema(example = "evt_02xk6m3q9s0w1")]
    id: String,
    /// How many deliveries were made: one per subscription, active or paused, that
    /// wants it.
    deliveries: u32,
    /// The same event came before under the same id; this is what was answered then.
    duplicate: bool,
}

impl From<Accepted> for AcceptedEvent {
    fn from(accepted: Accepted) -> Self {
        Self {
            id: accepted.id.to_string(),
            deliveries: accepted.deliveries,
            duplicate: accepted.duplicate,
        }
    }
}

/// Events that came in one request, and stand or fall together.
pub(super) struct Intake<'a> {
    pub(super) drafts: Vec<Draft>,
    pub(super) idempotency: Option<IdempotencyKey>,
    pub(super) traceparent: Option<String>,
    /// Where the n-th stands in the body, as a JSON pointer.
    pub(super) place: &'a (dyn Fn(usize) -> String + Sync),
}

/// What was accepted, and whether an earlier request with the same key did it.
pub(super) struct Done {
    pub(super) accepted: Vec<Accepted>,
    pub(super) replayed: bool,
}

impl Intake<'_> {
    pub(super) async fn accept(self, api: &Api, caller: &Caller) -> Result<Done, ApiError> {
        // Made once, so that `data` is read once, however often this is tried.
        let fields: Vec<EventFields<'_>> = self.drafts.iter().map(Draft::fields).collect();
        for attempt in 0..TRIES {
            let matchers = self.matchers(api, caller).await?;
            let (events, repeats) = self.events(&matchers, &fields)?;
            let versions: Vec<_> = events.iter().map(|event| event.app_version).collect();
            let item = AcceptItem {
                events,
                idempotency: self.idempotency,
                emitted: None,
            };
            let (accepted, replayed) = match self.hand_in(api, item, attempt == 0, &repeats).await?
            {
                AcceptOutcome::Accepted(accepted) => (accepted, false),
                AcceptOutcome::Replayed(accepted) => (accepted, true),
                // Only what was emitted has a row to be taken.
                AcceptOutcome::Taken => return Err(ApiError::Internal(None)),
                AcceptOutcome::KeyReused => return Err(ApiError::KeyReused),
                AcceptOutcome::IdReused(index) => return Err(self.id_reused(repeats.place(index))),
                AcceptOutcome::Stale => {
                    // Each by itself: one application may be there under two names.
                    for (matcher, written) in matchers.iter().zip(repeats.written()) {
                        if let Some(&version) = written.and_then(|index| versions.get(index)) {
                            matcher.outdated(version);
                        }
                    }
                    continue;
                }
            };
            return Ok(Done {
                accepted: repeats.spread(&accepted),
                replayed,
            });
        }
        Err(ApiError::Overloaded)
    }

    /// Has an item accepted, if it is within its applications' quotas.
    ///
    /// - `pays`: whether it counts for the rate.
    async fn hand_in(
        &self,
        api: &Api,
        item: AcceptItem,
        pays: bool,
        repeats: &Repeats,
    ) -> Result<AcceptOutcome, ApiError> {
        let refusal = match api.quotas().admit(&item, pays).await {
            Ok(admission) => return Ok(api.batcher().accept(item, admission).await?),
            Err(NotAdmitted::Refused(refusal)) => refusal,
            Err(NotAdmitted::Failed(error)) => return Err(error.into()),
        };
        let accepting = &api.metrics().accepting;
        if let Some(outcome) = api.quotas().came_before(&item, &refusal).await? {
            match outcome {
                AcceptOutcome::IdReused(_) | AcceptOutcome::KeyReused => {
                    accepting.refused(item.events.len(), RefusedBecause::Conflict);
                }
                _ => item.events.iter().for_each(|_| accepting.duplicate()),
            }
            return Ok(outcome);
        }
        accepting.refused(item.events.len(), refusal.because());
        let pointer = (self.place)(repeats.place(refusal.index)) + "/app";
        Err(ApiError::OverQuota { refusal, pointer })
    }

    /// What each event's application wants, at one version each.
    async fn matchers(&self, api: &Api, caller: &Caller) -> Result<Vec<Arc<Matcher>>, ApiError> {
        let mut matchers = Vec::with_capacity(self.drafts.len());
        for (index, draft) in self.drafts.iter().enumerate() {
            let found = api.matching().app(api.store(), &draft.app, api.now()).await;
            let matcher = match found {
                Ok(matcher) if caller.sees(matcher.app()) => matcher,
                Ok(_) | Err(ApiError::NotFound { .. }) => {
                    return Err(no_such_app((self.place)(index) + "/app"));
                }
                Err(other) => return Err(other),
            };
            matchers.push(matcher);
        }
        Ok(matchers)
    }

    fn events(
        &self,
        matchers: &[Arc<Matcher>],
        fields: &[EventFields<'_>],
    ) -> Result<(Vec<NewEvent>, Repeats), ApiError> {
        let (mut events, mut repeats) = (Vec::new(), Repeats::default());
        let mut seen = HashMap::new();
        for (index, (draft, matcher)) in self.drafts.iter().zip(matchers).enumerate() {
            let external = draft.external(matcher.app());
            if let Some(external) = &external {
                let first = seen.entry((matcher.app(), external.id_hash));
                let &mut (first, body_hash) = first.or_insert((events.len(), external.body_hash));
                if body_hash != external.body_hash {
                    return Err(self.id_reused(index));
                }
                if first < events.len() {
                    repeats.0.push((first, true));
                    continue;
                }
            }
            repeats.0.push((events.len(), false));
            let matched = matcher.matched(&fields[index]);
            events.push(NewEvent {
                // The batcher gives ids, just before it writes.
                id: EventId::MIN,
                app: matcher.app(),
                app_version: matched.version,
                event_type: draft.event_type.clone(),
                data: draft.data.clone(),
                labels: draft.labels.clone(),
                ordering_key: draft.ordering_key.clone(),
                deliver_at: draft.deliver_at,
                traceparent: self.traceparent.clone(),
                external,
                deliveries: matched.in_order(draft.ordering_key.as_deref()),
            });
        }
        Ok((events, repeats))
    }

    fn id_reused(&self, index: usize) -> ApiError {
        ApiError::Conflict {
            code: "id_reused",
            detail: "another event with this `id` was accepted before".to_owned(),
            pointer: Some((self.place)(index) + "/id"),
        }
    }
}

/// Which event of the request became which event to be written: one that stands in a
/// batch twice is written once.
#[derive(Default)]
struct Repeats(Vec<(usize, bool)>);

impl Repeats {
    /// Where in the request the n-th written event stands first.
    fn place(&self, written: usize) -> usize {
        self.0
            .iter()
            .position(|&(index, _)| index == written)
            .unwrap_or_default()
    }

    /// For every event of the request, which one it is to be written as; `None` if it is
    /// written as an earlier one.
    fn written(&self) -> impl Iterator<Item = Option<usize>> {
        self.0
            .iter()
            .map(|&(index, repeated)| (!repeated).then_some(index))
    }

    /// An answer for every event of the request.
    fn spread(&self, accepted: &[Accepted]) -> Vec<Accepted> {
        let answer = |&(index, repeated): &(usize, bool)| {
            let accepted = *accepted.get(index)?;
            Some(Accepted {
                duplicate: accepted.duplicate || repeated,
                ..accepted
            })
        };
        self.0.iter().filter_map(answer).collect()
    }
}

impl From<NotAccepted> for ApiError {
    fn from(reason: NotAccepted) -> Self {
        match reason {
            NotAccepted::Full => Self::Overloaded,
            NotAccepted::LeaseLost => Self::LeaseLost,
            // Both are in the log already.
            NotAccepted::Unavailable => Self::Unavailable(None),
            NotAccepted::Refused => Self::Internal(None),
        }
    }
}

/// The producer's trace context (W3C), if it is one.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    trace_context(headers.get("traceparent")?.to_str().ok()?)
}

/// A trace context (W3C), if it is one.
pub(crate) fn trace_context(text: &str) -> Option<String> {
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = text.split('-').map(str::len);
    let fits = lengths.eq([2, 32, 16, 2]) && text.split('-').all(is_hex) && !text.starts_with("ff");
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_taken_along() {
        let cases = [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                true,
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                false,
            ),
            ("00-4bf9-00f067aa0ba902b7-01", false),
            ("", false),
        ];
        for (given, taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", given.parse().unwrap());
            assert_eq!(traceparent(&headers).is_some(), taken, "{given}");
        }
    }

    #[test]
    fn an_event_that_stands_in_a_batch_twice_is_answered_twice() {
        let repeats = Repeats(vec![(0, false), (0, true), (1, false)]);
        let accepted = [7, 9].map(|id| Accepted {
            id: EventId::new(id),
            deliveries: 1,
            duplicate: false,
        });
        let spread: Vec<_> = repeats
            .spread(&accepted)
            .iter()
            .map(|one| (one.id.get(), one.duplicate))
            .collect();
        assert_eq!(spread, [(7, false), (7, true), (9, false)]);
        assert_eq!(repeats.place(1), 2);
    }
}
