//! Owns lanes, and sends what is in them, at least once each.
