//! An event as filters see it.

use std::{collections::BTreeMap, sync::OnceLock};

use super::{FilterPath, FilterValue, json::Json, path::Root};
use crate::EventType;

/// An event to be matched. Its `data` is read when a filter first looks into it, once.
#[derive(Debug)]
pub struct EventFields<'e> {
    event_type: &'e EventType,
    labels: &'e BTreeMap<String, String>,
    data: &'e [u8],
    read: OnceLock<Json<'e>>,
}

/// What a path leads to.
pub(super) enum Found<'f> {
    /// Nothing.
    Missing,
    /// Something that exists, but equals nothing and has no order.
    Incomparable,
    /// A value.
    Value(FilterValue<'f>),
}

impl<'e> EventFields<'e> {
    /// - `data`: known to be JSON.
    pub fn new(
        event_type: &'e EventType,
        labels: &'e BTreeMap<String, String>,
        data: &'e [u8],
    ) -> Self {
        Self {
            event_type,
            labels,
            data,
            read: OnceLock::new(),
        }
    }

    /// The event's type.
    pub fn event_type(&self) -> &'e EventType {
        self.event_type
    }

    /// What can be compared at this path.
    pub fn value(&self, path: &FilterPath) -> Option<FilterValue<'_>> {
        match self.find(path) {
            Found::Value(value) => Some(value),
            Found::Missing | Found::Incomparable => None,
        }
    }

    pub(super) fn find(&self, path: &FilterPath) -> Found<'_> {
        match &path.0 {
            Root::Type => Found::Value(FilterValue::text(self.event_type.as_str())),
            Root::Label(name) => match self.labels.get(&**name) {
                Some(value) => Found::Value(FilterValue::text(value)),
                None => Found::Missing,
            },
            Root::Data(parts) => {
                let mut parts = parts.iter();
                match parts.try_fold(self.data(), |json, part| json.child(part)) {
                    Some(json) => FilterValue::read(json).map_or(Found::Incomparable, Found::Value),
                    None => Found::Missing,
                }
            }
        }
    }

    fn data(&self) -> &Json<'e> {
        let read = || {
            let text = std::str::from_utf8(self.data).ok();
            // Null only if it is no JSON after all.
            text.and_then(Json::read).unwrap_or(Json::Null)
        };
        self.read.get_or_init(read)
    }

    /// Whether `data` was looked into.
    #[cfg(test)]
    pub(super) fn was_read(&self) -> bool {
        self.read.get().is_some()
    }
}
