//! Which build this is.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::family::Labels;

/// Always 1; what it tells is in the labels.
pub(crate) fn register(registry: &mut Registry) {
    let family = Family::<Labels<3>, Gauge>::default();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", env!("RINGBACK_COMMIT")),
        ("rustc", env!("RINGBACK_RUSTC")),
    ];
    family.get_or_create(&labels).set(1);
    registry.register("build_info", "Which build this is", family);
}
