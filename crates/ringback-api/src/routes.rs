//! One folder per noun, one file per verb.

pub(crate) mod apps;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod keys;
pub(crate) mod subscriptions;
pub(crate) mod system;

mod path;
