//! Requests to the API.

use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::{
    Durations,
    durations::SHORT,
    family::{Family, Kept, STATUS_CLASSES, class_of},
};

/// How long requests took, by route.
pub struct Http {
    routes: Family<Durations, 3>,
    elsewhere: RouteDurations,
}

/// How long requests to one route took. The answer's body is not waited for.
#[derive(Debug)]
pub struct RouteDurations([Kept<Durations, 3>; STATUS_CLASSES.len()]);

impl Http {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let routes = Family::durations(
            registry,
            "http_server_request_duration_seconds",
            "How long requests took, until the head of the answer",
            || Durations::new(SHORT),
        );
        let elsewhere = RouteDurations::new(&routes, "none", "none");
        Self { routes, elsewhere }
    }

    /// For one route.
    ///
    /// - `template`: its path, like `/v1/apps/{app}`.
    pub fn route(&self, method: &'static str, template: &'static str) -> RouteDurations {
        RouteDurations::new(&self.routes, method, template)
    }

    /// For requests that no route takes: what they ask for may be anything.
    pub fn elsewhere(&self) -> &RouteDurations {
        &self.elsewhere
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl RouteDurations {
    fn new(family: &Family<Durations, 3>, method: &'static str, route: &'static str) -> Self {
        Self(STATUS_CLASSES.map(|class| {
            family.kept([
                ("method", method),
                ("route", route),
                ("status_class", class),
            ])
        }))
    }

    /// A request was answered.
    pub fn answered(&self, status: u16, took: Duration) {
        self.0[class_of(Some(status))].get().observe(took);
    }
}
