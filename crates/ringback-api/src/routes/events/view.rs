//! An event as it is shown.

use std::collections::BTreeMap;

use ringback_model::{Scope, time::rfc3339};
use ringback_store::Event;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    error::{ApiError, InternalCause},
};

/// An immutable fact that a producer emitted.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventView {
    /// Also the `webhook-id` that its receivers see.
    #[schema(example = "evt_02xk6m3q9s0w1")]
    id: String,
    /// The producer's own id.
    external_id: Option<String>,
    /// The id of the application it belongs to.
    app: String,
    #[serde(rename = "type")]
    #[schema(example = "order.paid")]
    event_type: String,
    /// As the producer gave it. Left out without the scope `payloads:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    data: Option<Box<RawValue>>,
    labels: BTreeMap<String, String>,
    ordering_key: Option<String>,
    /// It is not delivered before.
    #[schema(format = DateTime)]
    deliver_at: Option<String>,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
}

impl EventView {
    pub(crate) fn of(caller: &Caller, event: Event) -> Result<Self, ApiError> {
        let data = caller
            .may(Scope::PayloadsRead)
            .then(|| raw(&event.data))
            .transpose()?;
        Ok(Self {
            id: event.id.to_string(),
            external_id: event.external_id,
            app: event.app.to_string(),
            event_type: event.event_type.to_string(),
            data,
            labels: event.labels,
            ordering_key: event.ordering_key,
            deliver_at: event.deliver_at.map(rfc3339),
            created_at: rfc3339(event.id.time()),
        })
    }
}

fn raw(data: &[u8]) -> Result<Box<RawValue>, ApiError> {
    let data = serde_json::from_slice::<&RawValue>(data).map(ToOwned::to_owned);
    data.map_err(|_| InternalCause::Corrupt("data").into())
}
