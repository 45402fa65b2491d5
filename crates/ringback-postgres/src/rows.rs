//! Reads columns back into the words of the model.

use ringback_model::{DeliveryId, EventId, Lane, Ordering, PayloadFilter, SubscriptionId};
use ringback_store::{StoreError, Within};
use serde_json as json;

/// A delivery's key, as two columns.
pub(crate) const fn delivery_id(event: i64, subscription: i64) -> DeliveryId {
    DeliveryId {
        event: EventId::new(event),
        subscription: SubscriptionId::new(subscription),
    }
}

/// A lane. The schema lets nothing but 0 to 255 in.
pub(crate) fn lane(number: i16) -> Lane {
    Lane::new(u8::try_from(number).unwrap_or_default())
}

/// A count or status code. The schema lets nothing negative in.
pub(crate) fn count(number: i16) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

/// A count or status code for a column, which ends at 32 767.
pub(crate) fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// Whether a subscription's deliveries keep order.
pub(crate) fn ordering_of(code: i16) -> Result<Ordering, StoreError> {
    Ordering::from_code(code).ok_or(StoreError::Corrupt {
        table: "subscription_versions",
        column: "ordering",
    })
}

/// The application that can be seen; `None` if all can.
pub(crate) const fn app_of(within: Within) -> Option<i64> {
    match within {
        Within::Everything => None,
        Within::App(app) => Some(app.get()),
    }
}

/// What a column keeps as JSON.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(
    table: &'static str,
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    json::from_str(text).map_err(|_| StoreError::Corrupt { table, column })
}

/// A filter, as its column has it.
pub(crate) fn payload_filter(text: Option<&str>) -> Result<Option<PayloadFilter>, StoreError> {
    let corrupt = StoreError::Corrupt {
        table: "subscription_versions",
        column: "payload_filter",
    };
    text.map(str::parse).transpose().map_err(|_| corrupt)
}

/// JSON for a column. Nothing that is kept so can fail to be written.
pub(crate) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    json::to_string(value).unwrap_or_default()
}
