//! The only HTTP client that connects to an address somebody else chose.
//!
//! Every address is judged by [`ringback_model::AddressPolicy`] just before it is
//! dialled, in the same call that resolved it, so a name cannot lead elsewhere in
//! between. Redirects are not followed, proxies and cookies not known, answers not
//! decompressed; what is read of an answer is limited in time and size.
//!
//! Retrying, and what an answer means, is left to the caller.

mod exchange;
pub use exchange::{Answer, Exchange, Failure, Post, Timings};

mod config;
pub use config::{EgressConfig, EgressError};

mod client;
pub use client::Egress;

mod answer;
mod connector;
mod dial;
mod dns;
mod failure;
mod host;
mod link;
mod tls;
