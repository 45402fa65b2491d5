//! The storage contract in SQLite.
