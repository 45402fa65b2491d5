//! Quotas, as they are written and shown.

use ringback_model::Quotas;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use crate::{faults::Faults, json::number, patch::Patch};

/// Quotas to be set: those left out stay as they are, `null` is for the operator's.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotasBody {
    /// Events per second, on each node: 0.01 to 1000000.
    #[serde(default)]
    #[schema(value_type = Option<f64>, example = 50)]
    events_per_s: Patch<f64>,
    /// Deliveries that are not settled yet.
    #[serde(default)]
    #[schema(value_type = Option<u64>, example = 100_000)]
    pending_deliveries: Patch<u64>,
    /// Bytes of events' `data` that are kept.
    #[serde(default)]
    #[schema(value_type = Option<u64>, example = 10_000_000_000_u64)]
    stored_bytes: Patch<u64>,
}

impl QuotasBody {
    /// `present`, with what is to change.
    pub(super) fn merge_into(self, present: Quotas) -> Quotas {
        Quotas {
            events_per_s: merged(self.events_per_s, present.events_per_s),
            pending_deliveries: merged(self.pending_deliveries, present.pending_deliveries),
            stored_bytes: merged(self.stored_bytes, present.stored_bytes),
        }
    }
}

fn merged<T>(change: Patch<T>, present: Option<T>) -> Option<T> {
    match change {
        Patch::Keep => present,
        Patch::Reset => None,
        Patch::Set(value) => Some(value),
    }
}

pub(super) fn check(faults: &mut Faults, quotas: Quotas) {
    if let Some((quota, detail)) = quotas.fault() {
        let pointer = format!("/quotas/{}", quota.as_str());
        faults.add(pointer, "out_of_range", detail + ", or null");
    }
}

/// Quotas; `null` where there is none.
#[derive(Serialize, ToSchema)]
#[schema(as = Quotas)]
pub(crate) struct QuotasView {
    /// Events per second, on each node.
    #[schema(value_type = Option<f64>)]
    events_per_s: Option<Number>,
    /// Deliveries that are not settled yet.
    pending_deliveries: Option<u64>,
    /// Bytes of events' `data` that are kept.
    stored_bytes: Option<u64>,
}

impl From<Quotas> for QuotasView {
    fn from(quotas: Quotas) -> Self {
        Self {
            events_per_s: quotas.events_per_s.map(number),
            pending_deliveries: quotas.pending_deliveries,
            stored_bytes: quotas.stored_bytes,
        }
    }
}
