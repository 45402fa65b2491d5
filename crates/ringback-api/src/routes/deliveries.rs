//! Deliveries: one event on its way to one subscription.

pub(crate) mod list;
pub(crate) use list::list;
pub(crate) mod get;
pub(crate) use get::get;
pub(crate) mod attempts;
pub(crate) use attempts::attempts;
pub(crate) mod replay;
pub(crate) use replay::replay;
pub(crate) mod cancel;
pub(crate) use cancel::cancel;

mod attempt_view;
mod view;
