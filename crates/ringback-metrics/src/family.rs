//! Metrics with labels, each looked up once.

use std::{fmt, sync::OnceLock};

use prometheus_client::{
    metrics::{counter::Counter, family, gauge::Gauge},
    registry::Registry,
};

use crate::Durations;

/// Names and values.
pub(crate) type Labels<const N: usize> = [(&'static str, &'static str); N];

/// One metric per set of labels.
#[derive(Clone)]
pub(crate) struct Family<M, const N: usize>(family::Family<Labels<N>, M, Make<M>>);

type Make<M> = fn() -> M;

impl<const N: usize> Family<Counter, N> {
    pub(crate) fn counters(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = family::Family::new_with_constructor(Counter::default as Make<Counter>);
        registry.register(name, help, family.clone());
        Self(family)
    }
}

impl<const N: usize> Family<Durations, N> {
    /// - `make`: makes one, with its bounds.
    pub(crate) fn durations(
        registry: &mut Registry,
        name: &str,
        help: &str,
        make: Make<Durations>,
    ) -> Self {
        let family = family::Family::new_with_constructor(make);
        registry.register(name, help, family.clone());
        Self(family)
    }
}

impl<M: Clone, const N: usize> Family<M, N> {
    /// The one with these labels, shown when it is first counted.
    pub(crate) fn kept(&self, labels: Labels<N>) -> Kept<M, N> {
        Kept {
            family: self.clone(),
            labels,
            metric: OnceLock::new(),
        }
    }

    /// The one with these labels, shown from the beginning: so its first rise is seen.
    pub(crate) fn shown(&self, labels: Labels<N>) -> Kept<M, N> {
        let kept = self.kept(labels);
        kept.get();
        kept
    }
}

/// One of a family, held once it is there.
pub(crate) struct Kept<M, const N: usize> {
    family: Family<M, N>,
    labels: Labels<N>,
    metric: OnceLock<M>,
}

impl<M: Clone, const N: usize> Kept<M, N> {
    pub(crate) fn get(&self) -> &M {
        self.metric
            .get_or_init(|| self.family.0.get_or_create_owned(&self.labels))
    }
}

impl<M, const N: usize> fmt::Debug for Kept<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.labels).finish()
    }
}

/// The class of an HTTP status, as a label says it; the last is for none.
pub(crate) const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The place of a status in [`STATUS_CLASSES`].
pub(crate) fn class_of(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100 - 1),
        Some(_) | None => STATUS_CLASSES.len() - 1,
    }
}

/// Gauges by their labels, set now and then.
#[derive(Debug)]
pub(crate) struct Gauges<const N: usize>(family::Family<Labels<N>, Gauge>);

impl<const N: usize> Gauges<N> {
    pub(crate) fn new(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = family::Family::default();
        registry.register(name, help, family.clone());
        Self(family)
    }

    pub(crate) fn set(&self, labels: Labels<N>, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.get_or_create(&labels).set(value);
    }
}
