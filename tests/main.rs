//! The whole service through its HTTP doors, on both databases.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod harness;

mod cases;

mod github;

mod crash;

mod properties;

mod nodes;

mod abort_storm;

mod cost;
