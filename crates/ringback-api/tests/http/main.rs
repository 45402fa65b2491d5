//! The API through its router, on a real SQLite store. Time is passed, never slept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod service;

mod apps;
mod deliveries;
mod events;
mod idempotency;
mod keys;
mod metrics;
mod problems;
mod quotas;
mod server;
mod subscriptions;
mod tenancy;
