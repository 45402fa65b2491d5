//! Events: emitting them, and looking them up.

pub(crate) mod publish;
pub(crate) use publish::publish;
pub(crate) mod publish_batch;
pub(crate) use publish_batch::publish_batch;
pub(crate) mod list;
pub(crate) use list::list;
pub(crate) mod get;
pub(crate) use get::get;

pub(crate) mod draft;
pub(crate) mod intake;
mod view;
