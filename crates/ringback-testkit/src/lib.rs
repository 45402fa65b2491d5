//! For tests: databases, receivers, load, and the store conformance suite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

pub mod databases;
pub use databases::TestStore;
#[cfg(feature = "postgres")]
pub use databases::fresh_postgres;
#[cfg(feature = "sqlite")]
pub use databases::fresh_sqlite;

pub mod seed;
pub use seed::instant;

pub mod conformance;

pub mod receiver;
pub use receiver::Receiver;

pub mod judges;

pub mod load;
