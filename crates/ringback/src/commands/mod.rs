//! The commands, a file each.

pub mod apps;
pub mod deliveries;
pub mod dev;
pub mod events;
pub mod keys;
pub mod migrate;
pub mod serve;
pub mod subscriptions;
pub mod trigger;
