//! An event as its producer sends it.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{AppId, EventFields, EventType, InvalidData, MAX_DATA_BYTES, check_data};
use ringback_store::{AppRef, ExternalId};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{error::ApiError, faults::Faults, routes::path::app_ref};

const MAX_ID_CHARS: usize = 255;
/// How far ahead `deliver_at` may be.
const MAX_AHEAD: TimeDelta = TimeDelta::days(30);
const ALMOST_A_MS: TimeDelta = TimeDelta::nanoseconds(999_999);

/// An event to be accepted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishEvent<'a> {
    /// The application's id or slug.
    #[serde(borrow)]
    #[schema(value_type = String, example = "billing")]
    app: Cow<'a, str>,
    /// Dot-separated parts of letters, digits, `_` and `-`: at most 128 characters. The
    /// first part may not be `ringback`.
    #[serde(borrow, rename = "type")]
    #[schema(value_type = String, example = "order.paid")]
    event_type: Cow<'a, str>,
    /// Any JSON of at most 256 KiB. Receivers get these very bytes.
    #[serde(borrow)]
    #[schema(value_type = Value)]
    data: &'a RawValue,
    /// Your own id. The same id again with the same event is no second event; with
    /// another it is refused.
    id: Option<String>,
    /// Names and values to search by.
    labels: Option<BTreeMap<String, String>>,
    /// On subscriptions with `ordering` `fifo`, events with the same key are delivered in
    /// the order of their acceptance. Those without one share one.
    ordering_key: Option<String>,
    /// Not to be delivered before; at most 30 days ahead.
    #[schema(format = DateTime, example = "2026-12-01T09:00:00.000Z")]
    deliver_at: Option<String>,
}

/// An event that was checked on its own; whether its application exists is not known.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) app: AppRef,
    pub(super) event_type: EventType,
    pub(super) data: Bytes,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) id: Option<String>,
    pub(super) ordering_key: Option<String>,
    pub(super) deliver_at: Option<DateTime<Utc>>,
}

impl Draft {
    /// Checks an event.
    ///
    /// - `place`: where it stands in the body, as a JSON pointer.
    pub(super) fn check(
        event: PublishEvent<'_>,
        place: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let at = |field: &str| format!("{place}/{field}");
        let data = event.data.get();
        let mut faults = Faults::default();
        match check_data(data) {
            Ok(()) => {}
            Err(InvalidData::TooLarge(_)) => return Err(too_large(at("data"))),
            Err(deep @ InvalidData::TooDeep) => {
                faults.add(at("data"), "too_deep", deep.to_string())
            }
        }
        let event_type = event.event_type.parse::<EventType>();
        let event_type = faults.keep(&at("type"), "bad_event_type", event_type);
        if event_type.as_ref().is_some_and(EventType::is_system) {
            let detail = "begins with `ringback`, as only the service's own events do";
            faults.add(at("type"), "reserved_event_type", detail);
        }
        for (field, text) in [("id", &event.id), ("ordering_key", &event.ordering_key)] {
            let Some(text) = text else {
                continue;
            };
            faults.check_text(&at(field), text, MAX_ID_CHARS);
            if text.is_empty() {
                faults.add(at(field), "empty", "is empty: leave it out instead");
            }
        }
        let deliver_at = event.deliver_at.as_deref();
        let deliver_at =
            deliver_at.and_then(|text| later(&mut faults, &at("deliver_at"), text, now));
        let labels = event.labels.unwrap_or_default();
        faults.check_pairs(&at("labels"), "label", &labels);
        let event_type = faults.finish_with(event_type)?;
        // What cannot be the name of an application is the name of none.
        let app = app_ref(&event.app).ok_or_else(|| no_such_app(at("app")))?;
        // Copied, so that it does not keep the whole body in memory.
        let data = Bytes::copy_from_slice(data.as_bytes());
        Ok(Self {
            app,
            event_type,
            data,
            labels,
            id: event.id,
            ordering_key: event.ordering_key,
            deliver_at,
        })
    }

    /// The event as filters see it.
    pub(super) fn fields(&self) -> EventFields<'_> {
        EventFields::new(&self.event_type, &self.labels, &self.data)
    }

    /// The producer's own id, with what it came with.
    pub(super) fn external(&self, app: AppId) -> Option<ExternalId> {
        let id = self.id.clone()?;
        let id_hash = Sha256::digest(&id).into();
        Some(ExternalId {
            id,
            id_hash,
            body_hash: self.body_hash(app),
        })
    }

    fn body_hash(&self, app: AppId) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(app.get().to_be_bytes());
        let labels = self
            .labels
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let parts = [self.event_type.as_str().as_bytes(), &self.data];
        let deliver_at = self
            .deliver_at
            .map(|at| at.timestamp_millis().to_be_bytes());
        // Behind all the rest, and only if they are there: so an event without them keeps
        // the hash it had before there were any.
        let key = self
            .ordering_key
            .iter()
            .flat_map(|key| ["ordering_key".as_bytes(), key.as_bytes()]);
        let time = deliver_at
            .iter()
            .flat_map(|at| ["deliver_at".as_bytes(), at]);
        for part in parts.into_iter().chain(labels).chain(key).chain(time) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// A time to come, or one that has passed: that is no time to wait for.
fn later(
    faults: &mut Faults,
    pointer: &str,
    text: &str,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let Ok(time) = DateTime::parse_from_rfc3339(text) else {
        let detail = "is not a time like `2026-12-01T09:00:00.000Z`";
        faults.add(pointer, "bad_time", detail);
        return None;
    };
    let time = time.to_utc();
    if time > now + MAX_AHEAD {
        faults.add(pointer, "out_of_range", "is more than 30 days ahead");
    }
    // Databases keep whole milliseconds; a part of one would make it earlier.
    Some(DateTime::from_timestamp_millis((time + ALMOST_A_MS).timestamp_millis()).unwrap_or(time))
}

pub(super) fn no_such_app(pointer: String) -> ApiError {
    ApiError::NotFound {
        noun: "application",
        pointer: Some(pointer),
    }
}

fn too_large(pointer: String) -> ApiError {
    ApiError::TooLarge {
        what: "`data`",
        limit_bytes: MAX_DATA_BYTES,
        pointer: Some(pointer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn check(body: &str) -> Result<Draft, ApiError> {
        Draft::check(body::parse(body.as_bytes())?, "", now())
    }

    #[test]
    fn the_bytes_of_data_stay_as_they_came() {
        let cases = [
            r#"{"n":1.10,"big":1e400,"e":"é","s":"\/","u":"\u0000","a":1,"a":2}"#,
            r#"{ "spaced" : [ 1 , 2 ] }"#,
            "null",
            "12345678901234567890123",
            r#""\ud800""#,
        ];
        for data in cases {
            let body = format!("{{\"data\": {data} ,\"app\":\"billing\",\"type\":\"a\"}}\n");
            assert_eq!(check(&body).unwrap().data, data.as_bytes(), "{data}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        let large = format!("\"{}\"", "x".repeat(MAX_DATA_BYTES));
        let with = |data: &str| format!(r#"{{"app":"a","type":"t","data":{data}}}"#);
        let cases = [
            (r#"{"app":"a","type":"t"}"#, "/data", "missing"),
            (
                r#"{"app":"a","type":"t t","data":1}"#,
                "/type",
                "bad_event_type",
            ),
            (
                r#"{"app":"a","type":"ringback.subscription.disabled","data":1}"#,
                "/type",
                "reserved_event_type",
            ),
            (r#"{"app":"a","type":"t","data":1,"id":""}"#, "/id", "empty"),
            (
                r#"{"app":"a","type":"t","data":1,"id":"\u0000"}"#,
                "/id",
                "nul",
            ),
            (
                r#"{"app":"a","type":"t","data":1,"labels":{"a:b":"c"}}"#,
                "/labels/a:b",
                "bad_name",
            ),
            (
                r#"{"app":"a","type":"t","data":1,"deliver_at":"tomorrow"}"#,
                "/deliver_at",
                "bad_time",
            ),
            (
                r#"{"app":"a","type":"t","data":1,"deliver_at":"2026-02-04T09:00:00.001Z"}"#,
                "/deliver_at",
                "out_of_range",
            ),
            (
                r#"{"app":"a","type":"t","data":1,"ordering_key":""}"#,
                "/ordering_key",
                "empty",
            ),
            (&with(&deep), "/data", "too_deep"),
            (&with(&large), "/data", "too_large"),
            (
                r#"{"app":"No App","type":"t","data":1}"#,
                "/app",
                "not_found",
            ),
        ];
        for (body, pointer, code) in cases {
            let problem = check(body).unwrap_err().problem();
            let found: Vec<_> = problem
                .errors
                .iter()
                .map(|fault| (&*fault.pointer, fault.code))
                .collect();
            assert_eq!(found, [(pointer, code)], "{}", &body[..60.min(body.len())]);
        }
    }

    #[test]
    fn a_time_to_deliver_at_is_kept_in_whole_milliseconds_and_never_earlier() {
        let cases = [
            ("2026-01-05T10:00:00Z", "2026-01-05T09:00:00.000Z"),
            ("2026-01-05T09:00:00.0001+01:00", "2026-01-05T08:00:00.001Z"),
            ("2026-02-04T09:00:00Z", "2026-02-04T09:00:00.000Z"),
        ];
        for (given, expected) in cases {
            let given = given.replace("10:00:00Z", "10:00:00+01:00");
            let body = format!(r#"{{"app":"a","type":"t","data":1,"deliver_at":"{given}"}}"#);
            let deliver_at = check(&body).unwrap().deliver_at.unwrap();
            assert_eq!(ringback_model::time::rfc3339(deliver_at), expected);
        }
    }

    #[test]
    fn an_event_is_the_same_only_in_all_its_parts() {
        let hash = |body: &str| check(body).unwrap().body_hash(AppId::new(1));
        let one = hash(r#"{"app":"a","type":"t","data":[1],"labels":{"a":"b"}}"#);
        // How the rest is spelled does not count.
        assert_eq!(
            one,
            hash(r#"{"labels":{"a":"b"}, "type":"\u0074","app":"x", "data":[1]}"#)
        );
        for other in [
            r#"{"app":"a","type":"t","data":[ 1],"labels":{"a":"b"}}"#,
            r#"{"app":"a","type":"u","data":[1],"labels":{"a":"b"}}"#,
            r#"{"app":"a","type":"t","data":[1],"labels":{"ab":""}}"#,
            r#"{"app":"a","type":"t","data":[1]}"#,
            r#"{"app":"a","type":"t","data":[1],"labels":{"a":"b"},"ordering_key":"k"}"#,
            r#"{"app":"a","type":"t","data":[1],"labels":{"a":"b"},"deliver_at":"2026-01-06T00:00:00Z"}"#,
        ] {
            assert_ne!(one, hash(other), "{other}");
        }
    }
}
