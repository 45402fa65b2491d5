//! How values are kept in columns.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ringback_model::{AttemptError, DeadReason, EventType, Lane};
use ringback_store::StoreError;
use serde::{Serialize, de::DeserializeOwned};

/// A column, for saying what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column(pub(crate) &'static str, pub(crate) &'static str);

impl Column {
    /// It holds what no code of this version writes.
    pub(crate) fn corrupt(self) -> StoreError {
        StoreError::Corrupt {
            table: self.0,
            column: self.1,
        }
    }

    /// Times are Unix milliseconds.
    pub(crate) fn time(self, millis: i64) -> Result<DateTime<Utc>, StoreError> {
        DateTime::from_timestamp_millis(millis).ok_or_else(|| self.corrupt())
    }

    /// Any number, in the width it has in the model.
    pub(crate) fn number<T: TryFrom<i64>>(self, number: i64) -> Result<T, StoreError> {
        T::try_from(number).map_err(|_| self.corrupt())
    }

    /// A text that the model parses.
    pub(crate) fn parse<T: std::str::FromStr>(self, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|_| self.corrupt())
    }

    /// A value kept as JSON.
    pub(crate) fn json<T: DeserializeOwned>(self, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|_| self.corrupt())
    }

    /// A lane.
    pub(crate) fn lane(self, number: i64) -> Result<Lane, StoreError> {
        self.number(number).map(Lane::new)
    }

    /// The number of a word.
    pub(crate) fn word<T>(
        self,
        code: i64,
        from_code: fn(i16) -> Option<T>,
    ) -> Result<T, StoreError> {
        i16::try_from(code)
            .ok()
            .and_then(from_code)
            .ok_or_else(|| self.corrupt())
    }
}

/// The type of an event, by its name in `event_types`.
pub(crate) fn event_type(name: String) -> Result<EventType, StoreError> {
    EventType::try_from(name).map_err(|_| Column("event_types", "name").corrupt())
}

/// The error of a last attempt.
pub(crate) fn last_error(
    table: &'static str,
    code: Option<i64>,
) -> Result<Option<AttemptError>, StoreError> {
    code.map(|code| Column(table, "last_error").word(code, AttemptError::from_code))
        .transpose()
}

/// Why a delivery is dead.
pub(crate) fn dead_reason(code: Option<i64>) -> Result<Option<DeadReason>, StoreError> {
    let column = Column("deliveries", "dead_reason");
    code.map(|code| column.word(code, DeadReason::from_code))
        .transpose()
}

/// Names and values, as a JSON object; null if there are none.
pub(crate) fn labels_text(labels: &BTreeMap<String, String>) -> Option<String> {
    (!labels.is_empty()).then(|| json(labels))
}

/// A value as JSON. Texts, numbers and lists of them cannot fail to be written.
pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
