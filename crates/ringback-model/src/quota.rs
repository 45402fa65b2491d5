//! How much one application may bring in.

/// What an application may bring in and have kept; `None` where there is no limit, or
/// none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quotas {
    /// Events per second, on each node.
    pub events_per_s: Option<f64>,
    /// Deliveries that are not settled yet.
    pub pending_deliveries: Option<u64>,
    /// Bytes of events' `data` that are kept.
    pub stored_bytes: Option<u64>,
}

impl Quotas {
    /// The lowest and the highest `events_per_s`.
    pub const EVENTS_PER_S: (f64, f64) = (0.01, 1_000_000.0);
    /// The highest of the others; the lowest is 1. Every JSON reader can tell it from its
    /// neighbours.
    pub const HIGHEST: u64 = (1 << 53) - 1;

    /// These, and `defaults` where there are none.
    ///
    /// ```
    /// # use ringback_model::Quotas;
    /// let own = Quotas { stored_bytes: Some(1_000), ..Quotas::default() };
    /// let defaults = Quotas { stored_bytes: Some(5), events_per_s: Some(10.0), ..own };
    /// let effective = own.or(defaults);
    /// assert_eq!(effective.stored_bytes, Some(1_000));
    /// assert_eq!(effective.events_per_s, Some(10.0));
    /// assert_eq!(effective.pending_deliveries, None);
    /// ```
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            events_per_s: self.events_per_s.or(defaults.events_per_s),
            pending_deliveries: self.pending_deliveries.or(defaults.pending_deliveries),
            stored_bytes: self.stored_bytes.or(defaults.stored_bytes),
        }
    }

    /// The first that is out of its range, with what would be in it.
    pub fn fault(&self) -> Option<(Quota, String)> {
        let (lowest, highest) = Self::EVENTS_PER_S;
        if let Some(rate) = self.events_per_s
            && !(lowest..=highest).contains(&rate)
        {
            let range = format!("must be from {lowest} to {highest}");
            return Some((Quota::EventsPerS, range));
        }
        let counts = [
            (Quota::PendingDeliveries, self.pending_deliveries),
            (Quota::StoredBytes, self.stored_bytes),
        ];
        let is_out =
            |number: Option<u64>| number.is_some_and(|n| !(1..=Self::HIGHEST).contains(&n));
        let (quota, _) = counts.into_iter().find(|&(_, number)| is_out(number))?;
        Some((quota, format!("must be from 1 to {}", Self::HIGHEST)))
    }
}

/// One of the quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// See [`Quotas::events_per_s`].
    EventsPerS,
    /// See [`Quotas::pending_deliveries`].
    PendingDeliveries,
    /// See [`Quotas::stored_bytes`].
    StoredBytes,
}

impl Quota {
    /// As fields of the API are named.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsPerS => "events_per_s",
            Self::PendingDeliveries => "pending_deliveries",
            Self::StoredBytes => "stored_bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let cases = [
            (None, None, None, None),
            (Some(0.01), Some(1), Some(Quotas::HIGHEST), None),
            (Some(0.0), None, None, Some(Quota::EventsPerS)),
            (Some(f64::NAN), None, None, Some(Quota::EventsPerS)),
            (Some(1e7), Some(0), None, Some(Quota::EventsPerS)),
            (None, Some(0), Some(0), Some(Quota::PendingDeliveries)),
            (None, None, Some(0), Some(Quota::StoredBytes)),
            (None, None, Some(u64::MAX), Some(Quota::StoredBytes)),
        ];
        for (events_per_s, pending_deliveries, stored_bytes, expected) in cases {
            let quotas = Quotas {
                events_per_s,
                pending_deliveries,
                stored_bytes,
            };
            let found = quotas.fault().map(|(quota, _)| quota);
            assert_eq!(found, expected, "{quotas:?}");
        }
    }
}
