//! Outbound webhook delivery: one binary.
