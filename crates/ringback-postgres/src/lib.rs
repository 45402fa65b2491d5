//! The storage contract in PostgreSQL.
